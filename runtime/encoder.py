"""Runs an artifact's graph on packed batches, verified against its canary before its first answer."""

# P packs, S tokens per pack, R rows, N valid tokens, C classes, D d_model, L norm layers

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from runtime.artifact import Artifact
from runtime.errors import ArtifactError, DeviceError
from runtime.manifest import CANARY, MODEL, PrecisionKind
from runtime.packing import PackedBatch, Tokens, pack
from runtime.session import Device, Placement, open_session

GRAPH_INPUTS = ("position_ids", "segment_ids", "pooling")
# Relative and absolute. Other kernels and devices round differently, a broken one is far off. In int8 a value that is
# rounded differently falls into the next of 256 steps: over thousands of inputs, the fused and the unfused kernel were
# 0.12 apart in a logit and 1.3 % in 1/sigma at most.
CANARY_TOLERANCE: dict[PrecisionKind, float] = {"fp32": 1e-3, "fp16": 2e-2, "int8": 0.1}
INT8_CPU_ONLY = "an int8 artifact runs on the CPU alone, for a GPU export it with --precision fp16"


@dataclass(frozen=True, slots=True)
class EncodedBatch:
    """What one run of the graph gives.

    Attributes:
        logits: [R, C].
        embedding: [R, D].
        norm_statistics: mean and 1/sigma of every valid token at every norm [N, 2L], row after row.
        feature_moments: mean and variance of every feature in this batch, one entry per BatchNorm [layers, 2, D].
        lengths: tokens per row [R].
    """

    logits: NDArray[np.float32]
    embedding: NDArray[np.float32]
    norm_statistics: NDArray[np.float32]
    feature_moments: NDArray[np.float32]
    lengths: NDArray[np.int64]

    def rows(self, start: int, stop: int) -> "EncodedBatch":
        """The answers for some of the rows; feature moments stay those of the whole batch."""
        ends = np.cumsum(self.lengths)
        first = ends[start] - self.lengths[start]
        return EncodedBatch(
            self.logits[start:stop],
            self.embedding[start:stop],
            self.norm_statistics[first : ends[stop - 1]],
            self.feature_moments,
            self.lengths[start:stop],
        )


def join(batches: Sequence[EncodedBatch]) -> EncodedBatch:
    """Several batches as one, in order; feature moments, which belong to their batch, are left out."""
    return EncodedBatch(
        np.concatenate([batch.logits for batch in batches]),
        np.concatenate([batch.embedding for batch in batches]),
        np.concatenate([batch.norm_statistics for batch in batches]),
        batches[0].feature_moments[:0],
        np.concatenate([batch.lengths for batch in batches]),
    )


class Encoder:
    """An artifact's graph in a session, ready to run.

    Raises:
        ArtifactError: the graph does not load, or does not reproduce its canary on this machine.
        DeviceError: the device cannot be had.
    """

    def __init__(self, artifact: Artifact, device: Device = "cpu", threads: int = 1) -> None:
        self.manifest = artifact.manifest
        self.session: ort.InferenceSession
        self.placement: Placement
        try:
            self.session, self.placement = open_session(
                artifact.files[MODEL],
                device,
                threads,
                plan=self.manifest.plan,
                cpu_only=INT8_CPU_ONLY if self.manifest.precision_kind == "int8" else "",
            )
        except DeviceError:
            raise
        except Exception as error:  # onnxruntime's exceptions have no common base of their own
            raise ArtifactError(
                f"{artifact.path / MODEL} does not load ({first_line(error)}): export it again."
            ) from error
        self.values_name = "input_ids" if self.manifest.inputs.kind == "text" else "features"
        self.output_names = [output.name for output in self.session.get_outputs()]
        self.no_feature_moments = np.empty((0, 2, self.manifest.d_model), dtype=np.float32)
        verify_canary(self, artifact)

    def run(self, sequences: Sequence[Tokens]) -> EncodedBatch:
        """Packs and runs R >= 1 sequences, each token ids [n] or features [n, F]."""
        batch = pack(sequences)
        return self.run_packed(batch)

    def run_packed(self, batch: PackedBatch) -> EncodedBatch:
        outputs = dict(zip(self.output_names, self.session.run(None, self.feeds(batch)), strict=True))
        statistics = outputs["norm_statistics"]
        return EncodedBatch(
            outputs["logits"],
            outputs["embedding"],
            statistics.reshape(-1, statistics.shape[-1])[batch.token_index],
            outputs.get("feature_moments", self.no_feature_moments),
            batch.lengths,
        )

    def feeds(self, batch: PackedBatch) -> dict[str, Tokens]:
        return {self.values_name: batch.values} | {name: getattr(batch, name) for name in GRAPH_INPUTS}


def verify_canary(encoder: Encoder, artifact: Artifact) -> None:
    """Runs the inputs that export stored, and compares logits and statistics with the answers stored beside them.

    They are PyTorch's in float64; those of the exported graph itself where its precision is lower.
    """
    dtype = "int64" if artifact.manifest.inputs.kind == "text" else "float32"
    try:
        canary = json.loads(artifact.files[CANARY])
        sequences: list[Tokens] = [np.array(tokens, dtype=dtype) for tokens in canary["inputs"]]
        expected = {name: np.array(canary[name], dtype=np.float64) for name in ("logits", "norm_statistics")}
        batch = encoder.run(sequences)
    except Exception as error:  # whatever does not fit together, the artifact cannot be served
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


def first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
