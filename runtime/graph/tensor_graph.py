"""Runs the graph of a network that reads tensors, on rows of one shape together."""

# R rows

import json
import time
from collections.abc import Sequence
from functools import cached_property
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from runtime.artifact import Artifact
from runtime.graph.batch import EncodedBatch, FeatureMoments, best_classes, identity, join
from runtime.graph.encoder import Encoder
from runtime.graph.packing import Tokens
from runtime.graph.tensors import TensorRow, decode
from runtime.manifest import CANARY, TensorInputs
from runtime.options import Device

MOST_ROWS, NEARLY = 256, 0.97  # rows that run together, and the share of the best speed that is as good
OWN = "addnorm."  # begins the names of what adoption adds to a graph's outputs
STATISTICS, EMBEDDING, LOGITS, MOMENTS = (
    f"{OWN}{name}" for name in ("norm_statistics", "embedding", "logits", "feature_moments")
)


class TensorGraph(Encoder):
    """An artifact's graph, run on rows of one shape together."""

    example: TensorRow
    """A row that it answers."""

    @cached_property
    def feature_ends(self) -> NDArray[np.int64]:
        """Where the features of each BatchNorm but the last end among those of all."""
        sizes = [layer.d_model for layer in self.manifest.layers if layer.kind == "batch_norm"]
        ends: NDArray[np.int64] = np.cumsum(sizes, dtype=np.int64)[:-1]
        return ends

    def read_canary(self, artifact: Artifact) -> list[Tokens]:
        rows = canary_rows(artifact)
        self.example = cast(TensorRow, rows[0])
        return rows

    def run(self, sequences: Sequence[Tokens]) -> EncodedBatch:
        rows = cast(Sequence[TensorRow], sequences)
        groups = self.groups(rows)
        if len(groups) == 1:
            return self.run_rows([rows[place] for place in groups[0]])
        batches = [self.run_rows([rows[place] for place in group]) for group in groups]
        single = dict[int, EncodedBatch]()
        for group, batch in zip(groups, batches, strict=True):
            single |= zip(group, batch.split([1] * len(group)), strict=True)
        joined = join([single[place] for place in range(len(rows))])
        joined.feature_moments = merged_moments([(batch.feature_moments, len(batch.lengths)) for batch in batches])
        joined.computed_tokens = len(rows)
        return joined

    def groups(self, rows: Sequence[TensorRow]) -> list[list[int]]:
        """The places of rows that run together."""
        assert isinstance(self.manifest.inputs, TensorInputs)
        if not self.manifest.inputs.together:
            return [[place] for place in range(len(rows))]
        found: dict[object, list[int]] = {}
        for place, row in enumerate(rows):
            found.setdefault(row.shapes, []).append(place)
        return list(found.values())

    def run_rows(self, rows: Sequence[TensorRow]) -> EncodedBatch:
        """Runs rows of one shape."""
        started = time.perf_counter()
        fed = tensor_feeds(self.manifest.inputs, rows)
        self.pack_seconds = time.perf_counter() - started
        found = dict(zip(self.output_names, self.session.run(self.output_names, fed), strict=True))
        statistics, embedding = found[STATISTICS], found[EMBEDDING]
        logits = found.get(LOGITS, embedding[:, :0])
        samples = statistics.shape[1]
        return EncodedBatch(
            logits,
            embedding,
            statistics.reshape(-1, statistics.shape[-1]),
            np.split(found[MOMENTS], self.feature_ends, axis=1) if MOMENTS in found else [],
            np.full(len(rows), samples),
            np.zeros(len(rows) * samples, dtype=np.float32),
            *(best_classes(logits) if self.classifies else self.clusters.assign(embedding)),
            len(rows),
            outputs={name: values for name, values in found.items() if not name.startswith(OWN)},
            identities=[identity(*row.values) for row in rows],
        )

    def token_seconds(self) -> float:
        """About how long a row takes to run, in seconds: the fastest of three runs of one of the canary's."""
        return min(self.seconds(1) for _ in range(3))

    def seconds(self, rows: int) -> float:
        started = self.timer()
        self.run_rows([self.example] * rows)
        return self.timer() - started

    def fastest_rows(self, limit: float) -> int:
        """How many rows to run together: the most that are about as fast as any number that runs in `limit` seconds.

        Of large rows few are the fastest: what they need stays in the processor's cache.
        """
        assert isinstance(self.manifest.inputs, TensorInputs)
        rate: dict[int, float] = {}
        rows = 1
        while rows <= MOST_ROWS and (rows == 1 or rows / rate[rows // 2] <= limit):
            rate[rows] = rows / min(self.seconds(rows) for _ in range(2))
            rows *= 2 if self.manifest.inputs.together else MOST_ROWS + 1
        return max(rows for rows, each in rate.items() if each >= NEARLY * max(rate.values()))


def tensor_feeds(inputs: Any, rows: Sequence[TensorRow]) -> dict[str, NDArray[Any]]:
    """The inputs of a run, by name."""
    return {spec.name: np.stack([row.values[i] for row in rows]) for i, spec in enumerate(inputs.tensors)}


def merged_moments(parts: Sequence[tuple[FeatureMoments, int]]) -> list[NDArray[np.float32]]:
    """Moments of every feature over several runs of so many rows each (Chan et al. 1979)."""
    weights = np.array([rows for _, rows in parts], dtype=np.float64) / sum(rows for _, rows in parts)
    merged = []
    for layer in zip(*(moments for moments, _ in parts), strict=True):
        means, variances = np.stack(layer, axis=1).astype(np.float64)
        mean = weights @ means
        variance = weights @ (variances + np.square(means - mean))
        merged.append(np.stack([mean, variance]).astype(np.float32))
    return merged


def open_encoder(artifact: Artifact, device: Device = "cpu", threads: int = 1, allow_fp32: bool = False) -> Encoder:
    """What runs the artifact's graph; arguments and errors as `Encoder`."""
    kind = TensorGraph if artifact.manifest.inputs.kind == "tensors" else Encoder
    return kind(artifact, device, threads, allow_fp32)


def canary_rows(artifact: Artifact) -> list[Tokens]:
    """The rows that adoption stored."""
    return [
        cast(Tokens, TensorRow(tuple(decode(part) for part in row)))
        for row in json.loads(artifact.files[CANARY])["inputs"]
    ]
