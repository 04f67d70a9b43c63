"""Runs an artifact's graph on packed batches, verified against its canary before its first answer."""

# P packs, S tokens per pack, R rows, N valid tokens, C classes, D d_model, L norm layers

import json
import time
from collections.abc import Sequence

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from runtime.artifact import Artifact
from runtime.errors import ArtifactError, DeviceError
from runtime.graph.batch import EncodedBatch, best_classes
from runtime.graph.inputs import piece_lengths
from runtime.graph.packing import PackedBatch, Tokens, pack
from runtime.graph.session import Placement, open_session
from runtime.manifest import CANARY, MODEL, PrecisionKind
from runtime.options import Device

GRAPH_INPUTS = ("position_ids", "segment_ids", "pooling")
# Relative and absolute. Other kernels and devices round differently, a broken one is far off. In int8 a value that is
# rounded differently falls into the next of 256 steps: over thousands of inputs, the fused and the unfused kernel were
# 0.12 apart in a logit and 1.3 % in 1/sigma at most.
CANARY_TOLERANCE: dict[PrecisionKind, float] = {"fp32": 1e-3, "fp16": 2e-2, "int8": 0.1}
INT8_CPU_ONLY = "an int8 artifact runs on the CPU alone, for a GPU export it with --precision fp16"


class Encoder:
    """An artifact's graph in a session, ready to run.

    Attributes:
        pack_seconds: how long packing took in the last run.

    Raises:
        ArtifactError: the graph does not load, or does not reproduce its canary on this machine.
        DeviceError: the device cannot be had.
    """

    def __init__(self, artifact: Artifact, device: Device = "cpu", threads: int = 1) -> None:
        self.manifest = artifact.manifest
        self.pack_seconds = 0.0
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
        self.piece_lengths = piece_lengths(artifact)
        self.no_feature_moments = np.empty((0, 2, self.manifest.d_model), dtype=np.float32)
        verify_canary(self, artifact)

    def run(self, sequences: Sequence[Tokens]) -> EncodedBatch:
        """Packs and runs R >= 1 sequences, each token ids [n] or features [n, F]."""
        started = time.perf_counter()
        batch = pack(sequences)
        self.pack_seconds = time.perf_counter() - started
        return self.run_packed(batch)

    def run_packed(self, batch: PackedBatch) -> EncodedBatch:
        logits, embedding, statistics, *feature_moments = self.session.run(self.output_names, self.feeds(batch))
        per_token = statistics.reshape(-1, statistics.shape[-1])
        return EncodedBatch(
            logits,
            embedding,
            per_token if batch.rows == 1 else per_token[batch.token_index],  # a single row has no padding
            feature_moments[0] if feature_moments else self.no_feature_moments,
            batch.lengths,
            self.token_lengths(batch),
            *best_classes(logits),
            batch.segment_ids.size,
        )

    def token_lengths(self, batch: PackedBatch) -> NDArray[np.float32]:
        """Characters of every valid token's piece of text [N]; 0 for float inputs."""
        if self.piece_lengths is None:
            return np.zeros(batch.tokens, dtype=np.float32)
        ids = batch.values.reshape(-1)
        return self.piece_lengths[ids if batch.rows == 1 else ids[batch.token_index]]

    def feeds(self, batch: PackedBatch) -> dict[str, Tokens]:
        return {self.values_name: batch.values} | {name: getattr(batch, name) for name in GRAPH_INPUTS}


def verify_canary(encoder: Encoder, artifact: Artifact) -> None:
    """Runs the inputs that export stored, and compares logits and statistics with the answers stored beside them.

    They are PyTorch's in float64; those of the exported graph itself where its precision is lower.
    """
    try:
        canary = json.loads(artifact.files[CANARY])
        sequences = canary_sequences(artifact)
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


def canary_sequences(artifact: Artifact) -> list[Tokens]:
    """The inputs that export stored, as the graph takes them."""
    dtype = "int64" if artifact.manifest.inputs.kind == "text" else "float32"
    return [np.array(tokens, dtype=dtype) for tokens in json.loads(artifact.files[CANARY])["inputs"]]


def first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
