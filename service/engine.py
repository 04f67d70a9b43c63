"""The engine: one loaded artifact that answers requests and records what its norms see."""

import time
from collections.abc import Sequence
from math import isnan
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from runtime.artifact import Artifact, read_artifact
from runtime.baseline import read_baseline
from runtime.batch import EncodedBatch, join
from runtime.deep import DeepSampler
from runtime.deep_graph import DeepGraph
from runtime.encoder import Encoder
from runtime.errors import InvalidInput
from runtime.inputs import EncodedInput, describe, make_input_encoder
from runtime.packing import Tokens
from runtime.probabilities import softmax
from runtime.statistics import row_means, token_values
from service.backlog import Answer
from service.batcher import Batcher
from service.collector import Collector, Statistics
from service.scale import scaled
from service.schemas import PredictRequest
from service.settings import Settings


class Phases(NamedTuple):
    """How long the parts of an answer took, in seconds; `stats` is within `infer`."""

    tokenize: float
    queue: float
    infer: float
    stats: float = 0.0


class Engine:
    """Loads the artifact that the settings name; ready once constructed.

    Args:
        collector: where it hands in what its norms see; one of its own where it is not given.
        artifact: the artifact, where it was read already.

    Raises:
        ArtifactError: the artifact is missing, half-written or altered.
        DeviceError: the device cannot be had.
    """

    def __init__(
        self, settings: Settings, collector: Statistics | None = None, artifact: Artifact | None = None
    ) -> None:
        settings, artifact = scaled(settings), artifact or read_artifact(settings.model)
        self.manifest = artifact.manifest
        self.identity = {"model": self.manifest.name, "version": self.manifest.version}
        self.max_rows = settings.max_rows
        self.inputs = make_input_encoder(artifact)
        self.encoder = Encoder(artifact, settings.device, settings.threads)
        self.placement = self.encoder.placement
        self.collector: Statistics = collector or Collector(artifact, settings)
        self.sampler = make_sampler(artifact, self.encoder, settings)
        self.baseline = read_baseline(artifact)
        self.timeout = settings.timeout
        self.batcher = Batcher(
            self._run,
            after=self.look_deeper,
            max_batch_tokens=settings.max_batch_tokens,
            max_queue_tokens=settings.max_queue_tokens,
            offload=self.placement.device != "cpu",
        )

    def start(self) -> None:
        """Begins to keep statistics, where the settings ask for it."""
        self.collector.start()

    async def close(self) -> None:
        """Answers what was accepted, and keeps the statistics a last time."""
        await self.batcher.close()
        self.collector.close()

    def _run(self, sequences: Sequence[Tokens]) -> EncodedBatch:
        started = time.perf_counter()
        batch = self.encoder.run(sequences)
        if isnan(sum(batch.scores)):
            return self._run_apart(sequences)
        ended = time.perf_counter()
        self.collector.observe(batch, ended - started)
        batch.stats_seconds = time.perf_counter() - ended
        return batch

    def look_deeper(self, sequences: Sequence[Tokens]) -> None:
        """Looks deeply at a few of the sequences that were answered, if there is time for it."""
        if self.sampler is not None and self.sampler.due:
            spent = self.sampler.spent
            self.collector.observe_deep(self.sampler.look(sequences), self.sampler.spent - spent)

    def _run_apart(self, sequences: Sequence[Tokens]) -> EncodedBatch:
        """Runs every sequence alone: one that overflows must not reach its neighbours, and is not counted."""
        batches = [self.encoder.run([sequence]) for sequence in sequences]
        for batch in batches:
            if not isnan(batch.scores[0]):
                self.collector.observe(batch, 0.0)
        return join(batches)

    async def predict(self, request: PredictRequest) -> tuple[list[dict[str, Any]], Phases]:
        """Classifies what a client sent; the predictions are as `service.schemas.Prediction` describes them.

        Raises: as `infer`.
        """
        started = time.perf_counter()
        encoded = self.inputs.encode(self.as_list(request.inputs))
        tokenized = time.perf_counter()
        answer = await self.infer(encoded, request.timeout)
        phases = Phases(tokenized - started, answer.queue_seconds, answer.run_seconds, answer.batch.stats_seconds)
        return self._predictions(encoded, answer.batch, request), phases

    async def infer(self, encoded: list[EncodedInput], timeout: float | None = None) -> Answer:
        """Runs R >= 1 encoded inputs, with whatever else waits; rows of the answer's batch are in their order.

        Args:
            timeout: seconds after which no answer is wanted; the service's own limit where it is not given.

        Raises:
            InvalidInput: an input overflows the model; says which.
            Unavailable, Overloaded, DeadlineExceeded: it cannot be answered now, or in time.
        """
        answer = await self.batcher.submit([item.tokens for item in encoded], timeout or self.timeout)
        if isnan(sum(answer.batch.scores)):
            row = [isnan(score) for score in answer.batch.scores].index(True)
            raise InvalidInput(
                "not_finite", f"inputs[{row}] overflows the model, expected values like the training data's."
            )
        return answer

    def _predictions(
        self, encoded: list[EncodedInput], batch: EncodedBatch, request: PredictRequest
    ) -> list[dict[str, Any]]:
        labels = self.manifest.labels
        predictions: list[dict[str, Any]] = []
        for item, best, score in zip(encoded, batch.classes, batch.scores, strict=True):
            top = {"label": labels[best], "score": score}
            predictions.append(top | {"tokens": len(item.tokens), "truncated": item.truncated, "top": [top]})
        if request.top_k > 1:
            for prediction, probabilities in zip(predictions, softmax(batch.logits), strict=True):
                prediction["top"] = self._top(probabilities, request.top_k)
        if request.norm_stats:
            for prediction, deviations in zip(predictions, self.deviations(batch), strict=True):
                prediction["norm_stats"] = deviations
        return predictions

    def _top(self, probabilities: NDArray[np.float64], count: int) -> list[dict[str, Any]]:
        best = np.argsort(-probabilities, kind="stable")[:count]
        return [{"label": self.manifest.labels[i], "score": float(probabilities[i])} for i in best]

    def as_list(self, inputs: Any) -> list[Any]:
        """What a client sent as a list of 1 to max_rows inputs, or raises InvalidInput."""
        rows = [inputs] if isinstance(inputs, str) else inputs
        if not isinstance(rows, list):
            kind = "a text or a list of texts" if self.manifest.inputs.kind == "text" else "a list of sequences"
            raise InvalidInput("invalid_inputs", f"inputs is {describe(inputs)}, expected {kind}.")
        if not rows:
            raise InvalidInput("no_inputs", f"inputs is empty, expected 1 to {self.max_rows} of them.")
        if len(rows) > self.max_rows:
            raise InvalidInput("too_many_rows", f"inputs has {len(rows)} rows, expected at most {self.max_rows}.")
        return rows

    def deviations(self, batch: EncodedBatch) -> list[list[dict[str, Any]]]:
        """How far every row's tokens lie from the baseline's requests, as `service.schemas.LayerDeviation` says it."""
        layers = self.manifest.layers
        means = row_means(token_values(batch.norm_statistics, layers), batch.lengths)
        scores = self.baseline.z_scores(means)
        return [
            [
                {
                    "name": layer.name,
                    "mean": row[2 * i],
                    "variance": row[2 * i + 1],
                    "mean_z": z[2 * i],
                    "variance_z": z[2 * i + 1],
                }
                for i, layer in enumerate(layers)
            ]
            for row, z in zip(means.tolist(), scores.tolist(), strict=True)
        ]


def make_sampler(artifact: Artifact, encoder: Encoder, settings: Settings) -> DeepSampler | None:
    """What looks deeply at a sample of the traffic; None where the artifact or the budget allows none."""
    if not settings.deep_budget or (graph := DeepGraph.of(artifact, encoder, settings.threads)) is None:
        return None
    return DeepSampler(graph.measure, settings.deep_budget)
