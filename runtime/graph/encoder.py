"""Runs an artifact's graph on packed batches, verified against its canary before its first answer."""

# P packs, S tokens per pack, R rows, N valid tokens, C classes, D d_model, L norm layers

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from runtime.artifact import Artifact
from runtime.errors import ArtifactError, DeviceError
from runtime.graph.batch import EncodedBatch, best_classes, identity, join
from runtime.graph.clusters import read_clusters
from runtime.graph.openvino_session import WIDTH_STEP, open_bf16
from runtime.graph.packing import PackedBatch, Tokens, like_lengths, pack, pad
from runtime.graph.providers import failure, unavailable
from runtime.graph.session import GraphSession, Placement, open_session
from runtime.graph.tables import Tables, shared_tables
from runtime.graph.texts import piece_lengths
from runtime.manifest import CANARY, MODEL, FeatureInputs, TextInputs
from runtime.options import Device
from runtime.precision import PrecisionKind

PROBE = 32  # tokens
GRAPH_INPUTS = ("position_ids", "segment_ids", "pooling")
# Relative and absolute. Other kernels and devices round differently, a broken one is far off. In int8 a value that is
# rounded differently falls into the next of 256 steps: over thousands of inputs, the fused and the unfused kernel were
# 0.12 apart in a logit and 1.3 % in 1/sigma at most.
CANARY_TOLERANCE: dict[PrecisionKind, float] = {"fp32": 1e-3, "fp16": 2e-2, "int8": 0.1, "bf16": 0.1}
INT8_CPU_ONLY = "an int8 artifact runs on the CPU alone, for a GPU export it with --precision fp16"


class Encoder:
    """An artifact's graph in a session, ready to run.

    Attributes:
        pack_seconds: how long packing took in the last run.
        tables: what its session shares with that of the deep graph; it must outlive both.

    Args:
        allow_fp32: run an artifact in bf16 in fp32 where there is no bf16.

    Raises:
        ArtifactError: the graph does not load, or does not reproduce its canary on this machine.
        DeviceError: the device cannot be had, `auto` takes the CPU then; or there is no bf16.
    """

    def __init__(self, artifact: Artifact, device: Device = "cpu", threads: int = 1, allow_fp32: bool = False) -> None:
        self.manifest, self.allow_fp32 = artifact.manifest, allow_fp32
        self.pack_seconds, self.threads = 0.0, threads
        self.session: GraphSession
        self.placement: Placement
        self.tables: Tables = {}
        self.open(artifact, device, threads)
        inputs = self.manifest.inputs
        self.values_name = "input_ids" if isinstance(inputs, TextInputs) else "features"
        self.pooling = inputs.pooling if isinstance(inputs, TextInputs) else "mean"
        self.type_ids = isinstance(inputs, TextInputs) and inputs.type_ids
        self.padded = self.manifest.graph == "padded"
        # of packs' widths; a padded graph may count positions itself, and has none beyond its longest text
        self.step = WIDTH_STEP if self.placement.precision == "bf16" and not self.padded else 1
        self.output_names = [output.name for output in self.session.get_outputs()]
        self.classifies = self.manifest.task == "classification"
        self.clusters = read_clusters(artifact)
        self.piece_lengths = piece_lengths(artifact)
        self.no_feature_moments = np.empty((0, 2, self.manifest.d_model), dtype=np.float32)
        try:
            verify_canary(self, artifact)
        except (ArtifactError, DeviceError) as error:
            if device != "auto" or self.placement.device == "cpu":
                raise
            self.open(artifact, "cpu", threads)
            self.placement = replace(self.placement, requested=device, reason=str(error))
            verify_canary(self, artifact)

    def open(self, artifact: Artifact, device: Device, threads: int) -> None:
        model, plan, precision = artifact.files[MODEL], self.manifest.plan, self.manifest.precision_kind
        try:
            if precision == "bf16":
                self.session, self.placement = open_bf16(model, device, threads, plan, self.allow_fp32)
            else:
                cpu_only = INT8_CPU_ONLY if precision == "int8" else ""
                tables = shared_tables(artifact) if device in ("auto", "cpu") else {}
                self.session, placement = open_session(
                    model, device, threads, plan=plan, cpu_only=cpu_only, tables=tables
                )
                self.tables = tables if placement.device == "cpu" else {}
                self.placement = replace(placement, precision=precision)
        except DeviceError:
            raise
        except Exception as error:  # the engines' exceptions have no common base of their own
            raise ArtifactError(
                f"{artifact.path / MODEL} does not load ({first_line(error)}): export it again."
            ) from error

    def read_canary(self, artifact: Artifact) -> list[Tokens]:
        """The inputs that export stored, as the graph takes them."""
        return canary_sequences(artifact)

    def run(self, sequences: Sequence[Tokens]) -> EncodedBatch:
        """Packs and runs R >= 1 sequences, each token ids [n], with their types [n, 2], or features [n, F]."""
        started = time.perf_counter()
        if self.padded and len(sequences) > 1:
            found = self.run_padded(sequences)
        else:
            batch = pack(sequences, pooling=self.pooling, step=self.step)
            self.pack_seconds = time.perf_counter() - started
            found = self.run_packed(batch)
        found.identities = [identity(sequence) for sequence in sequences]
        return found

    def run_padded(self, sequences: Sequence[Tokens]) -> EncodedBatch:
        """Runs sequences of like lengths together, and gives the answers in the order of the sequences."""
        self.pack_seconds, computed = 0.0, 0
        rows: dict[int, EncodedBatch] = {}
        for places in like_lengths([len(sequence) for sequence in sequences]):
            started = time.perf_counter()
            batch = pad([sequences[place] for place in places], self.pooling, self.step)
            self.pack_seconds += time.perf_counter() - started
            rows |= zip(places, self.run_packed(batch).split([1] * len(places)), strict=True)
            computed += batch.segment_ids.size
        joined = join([rows[place] for place in range(len(sequences))])
        joined.computed_tokens = computed
        return joined

    def run_packed(self, batch: PackedBatch) -> EncodedBatch:
        found = dict(zip(self.output_names, self.session.run(self.output_names, self.feeds(batch)), strict=True))
        embedding, statistics = found["embedding"], found["norm_statistics"]
        logits = found.get("logits", embedding[:, :0])
        per_token = statistics.reshape(-1, statistics.shape[-1])
        return EncodedBatch(
            logits,
            embedding,
            per_token if batch.full else per_token[batch.token_index],
            found.get("feature_moments", self.no_feature_moments),
            batch.lengths,
            self.token_lengths(batch),
            *(best_classes(logits) if self.classifies else self.clusters.assign(embedding)),
            batch.segment_ids.size,
        )

    def token_lengths(self, batch: PackedBatch) -> NDArray[np.float32]:
        """Characters of every valid token's piece of text [N]; 0 for float inputs."""
        if self.piece_lengths is None:
            return np.zeros(batch.tokens, dtype=np.float32)
        ids = batch.values[..., 0].reshape(-1) if self.type_ids else batch.values.reshape(-1)
        return self.piece_lengths[ids if batch.full else ids[batch.token_index]]

    @property
    def timer(self) -> Callable[[], float]:
        """What tells how long a run takes, where others may have the core meanwhile (seconds)."""
        return time.thread_time if self.placement.device == "cpu" and self.threads == 1 else time.perf_counter

    def token_seconds(self) -> float:
        """About how long a token takes to run, in seconds: the fastest of three runs of a sequence of PROBE tokens."""
        inputs = self.manifest.inputs
        length = min(PROBE, inputs.max_tokens)
        shape = (length, inputs.num_features) if isinstance(inputs, FeatureInputs) else (length, 2)[: 1 + self.type_ids]
        batch = pack(
            [np.zeros(shape, "float32" if isinstance(inputs, FeatureInputs) else "int64")], pooling=self.pooling
        )
        seconds = []
        for _ in range(3):
            started = self.timer()
            self.session.run(self.output_names, self.feeds(batch))
            seconds.append(self.timer() - started)
        return min(seconds) / length

    def feeds(self, batch: PackedBatch) -> dict[str, Tokens]:
        shared = {name: getattr(batch, name) for name in GRAPH_INPUTS}
        if self.type_ids:
            return {self.values_name: batch.values[..., 0], "type_ids": batch.values[..., 1]} | shared
        return {self.values_name: batch.values} | shared


def verify_canary(encoder: Encoder, artifact: Artifact) -> None:
    """Runs the inputs that export stored, and compares what comes out with the answers stored beside them.

    They are PyTorch's in float64; those of the exported graph itself where its precision is lower.
    """
    try:
        canary = json.loads(artifact.files[CANARY])
        sequences = encoder.read_canary(artifact)
        answer = "embedding" if artifact.manifest.task == "embedding" else "logits"
        expected = {name: np.array(canary[name], dtype=np.float64) for name in (answer, "norm_statistics")}
        batch = encoder.run(sequences)
    except Exception as error:  # whatever does not fit together, the artifact cannot be served
        device = encoder.placement.device
        if device != "cpu" and (said := failure(error)):
            raise unavailable(device, said) from error
        raise ArtifactError(
            f"{artifact.path / MODEL} cannot run its canary ({first_line(error)}): export the model again."
        ) from error
    tolerance = CANARY_TOLERANCE[artifact.manifest.precision_kind]
    for name, values in expected.items():
        found = getattr(batch, name)
        if found.shape != values.shape or not np.allclose(found, values, tolerance, tolerance):
            raise ArtifactError(
                f"{artifact.path / MODEL} does not reproduce its canary on {encoder.placement.provider} "
                f"({name} differ): graph and onnxruntime do not fit together, export the model again."
            )


def canary_sequences(artifact: Artifact) -> list[Tokens]:
    """The inputs that export stored, as the graph takes them."""
    dtype = "int64" if artifact.manifest.inputs.kind == "text" else "float32"
    return [np.array(tokens, dtype=dtype) for tokens in json.loads(artifact.files[CANARY])["inputs"]]


def first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
