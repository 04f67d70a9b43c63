"""Scores chunks of rows: answers as the service gives them, and what the norms saw, as a state that merges."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import isnan
from pathlib import Path
from typing import Any

from addnorm.scoring.chunks import Chunk
from addnorm.scoring.tables import Columns
from runtime.artifact import Artifact, read_artifact
from runtime.drift.baseline import read_baseline
from runtime.errors import ArtifactError, InvalidInput, SettingError
from runtime.graph.batch import EncodedBatch, unit
from runtime.graph.deep import DeepGraph
from runtime.graph.inputs import EncodedInput
from runtime.graph.tensor_graph import open_encoder
from runtime.graph.texts import make_input_encoder
from runtime.manifest import Manifest
from runtime.options import Device
from runtime.statistics.deep import LOOK_TOKENS, DeepState, measure_all
from runtime.statistics.recorder import NormRecorder
from runtime.statistics.state import SparseState
from service.inference.engine import GPU_TOKENS, MOST_TOKENS, ModelRunner
from service.inference.results import predictions, relevance
from service.schemas.inference import PredictRequest
from service.telemetry.inference_counts import InferenceCounts

DEEP_EVERY = 16  # rows; one of them is looked at deeply: the same ones, however many processes there are


@dataclass(frozen=True, slots=True)
class Options:
    """How to score.

    Attributes:
        digest: of the model's manifest, which must not change meanwhile.
        top_k: classes to give for each row.
    """

    model: Path
    digest: str
    columns: Columns
    device: Device = "cpu"
    top_k: int = 1
    allow_fp32: bool = False


@dataclass(slots=True)
class Scored:
    """A chunk's answers.

    Attributes:
        answers: by place in the chunk, as the output has them; None where there is a fault.
        state: what the norms saw of them.
        deep: of every DEEP_EVERY-th row.
        truncated: rows that were longer than the model reads.
    """

    chunk: Chunk
    answers: list[dict[str, Any] | None]
    state: SparseState
    deep: DeepState
    truncated: int


class Scorer:
    """A model that scores chunks, one thread at a time.

    Raises:
        ArtifactError: the artifact cannot be used.
        DeviceError: the device cannot be had.
        SettingError: it does not read such columns.
    """

    def __init__(self, artifact: Artifact, options: Options) -> None:
        if artifact.manifest.digest != options.digest:
            raise ArtifactError(f"{artifact.path} was replaced meanwhile: score again.")
        check_inputs(artifact.manifest, options.columns)
        self.manifest, self.columns, self.top_k = artifact.manifest, options.columns, options.top_k
        self.inputs = make_input_encoder(artifact)
        self.encoder = open_encoder(artifact, options.device, 1, options.allow_fp32)
        self.deep = DeepGraph.of(artifact, self.encoder, 1)
        self.baseline = read_baseline(artifact)
        self.limits = self.baseline.limits
        self.batch_tokens = MOST_TOKENS if self.encoder.placement.device == "cpu" else GPU_TOKENS

    def score(self, chunk: Chunk) -> Scored:
        """What a row is answered with does not depend on the chunk around it, but for rounding."""
        recorder = NormRecorder(self.manifest.layers, self.baseline.summarize, limits=self.limits)
        runner = ModelRunner(self.encoder, recorder, None, InferenceCounts())
        encoded = self.encode(chunk)
        answers: list[dict[str, Any] | None] = [None] * len(chunk.values)
        for places in batches(encoded, self.batch_tokens):
            items = [encoded[place] for place in places]
            batch = runner.run([item.tokens for item in items])
            for place, answer, score in zip(places, self.answer(items, batch), batch.scores, strict=True):
                if isnan(score):
                    chunk.faults[place] = f"{self.columns.value!r} overflows the model"
                    del encoded[place]
                else:
                    answers[place] = answer
        truncated = sum(item.truncated for item in encoded.values())
        state, deep = SparseState.compress(recorder.state()), self.look_deeper(chunk, encoded)
        chunk.values = []  # nobody needs them any more, and they would travel back
        return Scored(chunk, answers, state, deep, truncated)

    def encode(self, chunk: Chunk) -> dict[int, EncodedInput]:
        """The rows that can be read, by their place; why others cannot is added to the chunk's faults."""
        places = [place for place in range(len(chunk.values)) if place not in chunk.faults]
        try:
            return dict(zip(places, self.inputs.encode([chunk.values[place] for place in places]), strict=True))
        except InvalidInput:
            pass  # one by one, to find out which
        found = {}
        for place in places:
            try:
                (found[place],) = self.inputs.encode([chunk.values[place]])
            except InvalidInput as error:
                chunk.faults[place] = told(error, self.columns)
        return found

    def answer(self, items: list[EncodedInput], batch: EncodedBatch) -> list[dict[str, Any]]:
        """The answers to rows that ran together."""
        if self.manifest.task == "classification":
            request = PredictRequest(inputs=None, top_k=self.top_k)
            found = predictions(self.manifest, self.baseline, items, batch, request)
            if self.top_k == 1:  # else it would be there twice
                for row in found:
                    del row["top"]
            return found
        if self.manifest.task == "embedding":
            vectors = unit(batch.embedding) if self.manifest.normalize else batch.embedding
            name, values = "embedding", vectors.tolist()
        else:
            name, values = "score", relevance(self.manifest, batch).tolist()
        return [
            {name: value, "tokens": len(item.tokens), "truncated": item.truncated}
            for item, value in zip(items, values, strict=True)
        ]

    def look_deeper(self, chunk: Chunk, encoded: dict[int, EncodedInput]) -> DeepState:
        empty = DeepState.empty(self.manifest.layers)
        if self.deep is None:
            return empty
        chosen = {place: item for place, item in encoded.items() if (chunk.first + place) % DEEP_EVERY == 0}
        groups = batches(chosen, LOOK_TOKENS)
        states = [
            measure_all(self.deep.run, self.deep.batches([chosen[place].tokens for place in places]))
            for places in groups
        ]
        return DeepState.merge_all([empty, *states])


def batches(encoded: dict[int, EncodedInput], most: int) -> Iterator[list[int]]:
    """Places of rows to run together, of like lengths, with `most` tokens unless one row has more."""
    places, tokens = list[int](), 0
    for place in sorted(encoded, key=lambda place: len(encoded[place].tokens)):
        length = len(encoded[place].tokens)
        if places and tokens + length > most:
            yield places
            places, tokens = [], 0
        places.append(place)
        tokens += length
    if places:
        yield places


def told(error: InvalidInput, columns: Columns) -> str:
    """The error about a single input, in the words of the file."""
    message = str(error).removesuffix(".")
    for name, column in (("inputs[0][0]", columns.value), ("inputs[0][1]", columns.pair), ("inputs[0]", columns.value)):
        message = message.replace(name, repr(column))
    return message


def check_inputs(manifest: Manifest, columns: Columns) -> None:
    """Raises SettingError unless the model reads what these columns hold."""
    inputs = manifest.inputs
    if inputs.kind == "tensors":
        raise SettingError(f"{manifest.name} reads tensors, which no table holds: serve it, and ask POST /v2.")
    pairs = inputs.kind == "text" and inputs.pairs
    if pairs and columns.pair is None:
        raise SettingError(f"{manifest.name} reads pairs of texts: name the column of the second with --text-pair.")
    if columns.pair is not None and not pairs:
        raise SettingError(f"{manifest.name} reads no pairs of texts: leave --text-pair out.")


@lru_cache(maxsize=1)
def open_scorer(options: Options) -> Scorer:
    """The scorer of this process; errors as those of Scorer."""
    return Scorer(read_artifact(options.model), options)


def columns_of_answers(manifest: Manifest, top_k: int) -> Sequence[str]:
    """Names of what an answer has."""
    counts = ("tokens", "truncated")
    if manifest.task == "classification":
        return ("label", "score", *counts, *(("top",) if top_k > 1 else ()))
    return ("embedding" if manifest.task == "embedding" else "score", *counts)
