"""Runs an artifact's deep graph (export/deep.py), verified against the served graph before its first use."""

# N valid tokens, A Adds, F features: the sum of the norms' d_model

import logging
from collections.abc import Sequence
from typing import Self

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from runtime.artifact import Artifact
from runtime.errors import ArtifactError, DeviceError
from runtime.graph.encoder import Encoder, canary_sequences, first_line
from runtime.graph.packing import PackedBatch, Tokens, to_batches
from runtime.graph.session import open_session
from runtime.manifest import DEEP, MODEL

logger = logging.getLogger("addnorm.session")

# Relative, and absolute in sigma: room for a served graph of lower precision. Another network is far off.
TOLERANCE = 0.05
OUTPUTS = ["norm_inputs", "norm_outputs", "adds"]  # the last where Adds are known


class DeepGraph:
    """The deep graph of `artifact`, on the device that its encoder runs on.

    Raises:
        DeviceError: that device cannot have it.
        ArtifactError: it does not load, or sees other token means and variances than the served graph.
    """

    def __init__(self, artifact: Artifact, encoder: Encoder, threads: int = 1) -> None:
        self.layers, self.encoder, path = artifact.manifest.layers, encoder, artifact.path / DEEP
        try:
            self.session = open_beside(artifact, encoder, threads)
            self.outputs = [output.name for output in self.session.get_outputs()]
            if self.outputs not in (OUTPUTS, OUTPUTS[:2]):
                raise ValueError(f"it has the outputs {', '.join(self.outputs)}")
            difference = np.max([self.difference(batch) for batch in self.batches(canary_sequences(artifact))])
        except DeviceError:
            raise
        except Exception as error:  # onnxruntime's exceptions have no common base of their own
            raise ArtifactError(f"{path} does not run ({first_line(error)}): export the model again.") from error
        if not difference <= TOLERANCE:
            raise ArtifactError(f"{path} is not a graph of the same network as {MODEL}: export the model again.")

    @classmethod
    def of(cls, artifact: Artifact, encoder: Encoder, threads: int = 1) -> Self | None:
        """The artifact's deep graph; None where it has none."""
        return cls(artifact, encoder, threads) if DEEP in artifact.files else None

    def batches(self, sequences: Sequence[Tokens]) -> list[PackedBatch]:
        """Sequences as this graph runs them: one batch of packs, or padded ones of like lengths."""
        return to_batches(sequences, self.encoder.padded)

    def run(self, batch: PackedBatch) -> list[NDArray[np.float32]]:
        """What entered and left the norms [N, F] each, and the Adds' numbers [N, 2A], of the valid tokens."""
        outputs = self.session.run(self.outputs, self.encoder.feeds(batch))
        found = [output.reshape(batch.segment_ids.size, -1)[batch.token_index] for output in outputs]
        return found if len(found) == len(OUTPUTS) else [*found, np.zeros((batch.tokens, 0), np.float32)]

    def difference(self, batch: PackedBatch) -> float:
        """The largest difference from the served graph's token means (in sigma) and 1/sigma (relative)."""
        ends = np.cumsum([layer.d_model for layer in self.layers])[:-1]
        inputs = np.split(self.run(batch)[0].astype(np.float64), ends, axis=1)  # norms may differ in their width
        expected = self.encoder.run_packed(batch).norm_statistics.astype(np.float64)
        eps = np.array([layer.eps for layer in self.layers])
        mean, variance = (np.stack([each(values, axis=1) for values in inputs], 1) for each in (np.mean, np.var))
        inv_std = 1 / np.sqrt(variance + eps)
        return float(
            np.maximum(  # unlike max, it keeps a NaN
                np.abs((mean - expected[:, 0::2]) * inv_std).max(), np.abs(inv_std / expected[:, 1::2] - 1).max()
            )
        )


def open_beside(artifact: Artifact, encoder: Encoder, threads: int) -> ort.InferenceSession:
    """A session of the deep graph where the served one runs; on the CPU where `auto` has no room for both there."""
    model, plan, weights = artifact.files[DEEP], artifact.manifest.plan, {MODEL: artifact.files[MODEL]}
    placement, tables = encoder.placement, encoder.tables
    try:
        return open_session(model, placement.device, threads, plan, weights=weights, tables=tables)[0]
    except DeviceError as error:
        if placement.requested != "auto":
            raise
        logger.info("the deep graph runs on the CPU: %s", error)
        return open_session(model, "cpu", threads, plan, weights=weights, tables=tables)[0]
