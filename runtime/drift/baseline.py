"""The baseline: normalization statistics of what is normal: the validation data, through the exported graph itself.

Stored as JSON, so that a person can read it and any tool can merge it (runtime/store/document.py).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json

from runtime.artifact import Artifact
from runtime.drift.detector import MIN_REQUESTS, Reference
from runtime.drift.numbers import request_features
from runtime.errors import ArtifactError
from runtime.graph.batch import EncodedBatch
from runtime.manifest import BASELINE, Manifest
from runtime.statistics.deep import DeepState
from runtime.statistics.moments import Moments
from runtime.statistics.recorder import Recorded, Summarize
from runtime.statistics.state import NormState
from runtime.statistics.traffic import Traffic
from runtime.statistics.windows import Span
from runtime.store.checks import UNUSABLE, checked_span
from runtime.store.document import (
    deep_from_dict,
    deep_to_dict,
    moments_from_dict,
    moments_to_dict,
    state_from_dict,
    state_to_dict,
)

ABSURD = 1e6  # times the largest magnitude of the validation data


def largest(moments: Moments) -> NDArray[np.float64]:
    seen = moments.count > 0
    magnitudes = np.where(seen, np.maximum(np.abs(moments.minimum), np.abs(moments.maximum)), 0.0)
    limits: NDArray[np.float64] = ABSURD * np.maximum(magnitudes + moments.std, 1.0)
    return limits


@dataclass(frozen=True, slots=True)
class Baseline:
    """What normal traffic looks like.

    Attributes:
        state: of all validation tokens.
        rows: moments of the per-request averages of every column [2L]: how far single requests lie apart.
        reference: what windows are judged by; None where the validation data were too few to calibrate it.
        deep: every feature of every norm, of all validation tokens; None where the artifact has no deep graph.
        taken: the time of the live traffic that it was taken from; None for the validation data.
    """

    state: NormState
    rows: Moments
    reference: Reference | None = None
    deep: DeepState | None = None
    taken: Span | None = None

    @property
    def summarize(self) -> Summarize | None:
        """Sums a batch up for the reference; None where there is none."""
        return self.reference.traffic if self.reference else None

    @property
    def limits(self) -> tuple[NDArray[np.float64], dict[int, NDArray[np.float64]]]:
        """Magnitudes that no traffic has: of the columns [2L], and of the features of every BatchNorm [D]."""
        return largest(self.state.moments), {layer: largest(seen) for layer, seen in self.state.features.items()}

    def z_scores(self, row_means: NDArray[np.float64]) -> NDArray[np.float64]:
        """How many standard deviations requests lie from the average validation request [R, 2L]; 0 where none vary."""
        std = self.rows.std
        return np.where(std > 0, (row_means - self.rows.mean) / np.where(std > 0, std, 1.0), 0.0)

    def percentiles(self, batch: EncodedBatch) -> list[float] | list[None]:
        """Of a hundred of the baseline's requests, how many the model is surer of than of each [R]; None where it is
        not known."""
        if self.reference is None or self.reference.unlikeness is None:
            return [None] * len(batch.lengths)
        features, _ = request_features(batch)
        found: list[float] = (100 * (1 - self.reference.unlikeness.rank(features))).tolist()
        return found

    def taken_from(self, recorded: Recorded, parts: Sequence[Traffic] = ()) -> Self:
        """The baseline for which this live traffic is normal.

        What was looked at deeply stays as it was where too little of this traffic was.

        Args:
            parts: of it, one after the other: they tell how far single requests lie apart.
        """
        reference = self.reference.recentred(recorded.state.traffic, parts) if self.reference else None
        deep = recorded.deep if recorded.deep.requests >= MIN_REQUESTS else self.deep
        return replace(self, state=recorded.state, reference=reference, deep=deep, taken=recorded.covered)

    def to_json(self) -> bytes:
        content = {
            "state": state_to_dict(self.state),
            "rows": moments_to_dict(self.rows),
            "reference": self.reference.to_dict() if self.reference else None,
            "deep": deep_to_dict(self.deep, digits=7) if self.deep else None,
            "taken": self.taken,
        }
        return json.dumps(content, separators=(",", ":"), allow_nan=False).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Self:
        raw = from_json(content)  # a quarter of the time that the json module holds Python's lock for
        reference = Reference.from_dict(raw["reference"]) if raw["reference"] else None
        deep = deep_from_dict(raw["deep"]) if raw.get("deep") else None
        taken = checked_span(*raw["taken"]) if raw.get("taken") else None
        return cls(state_from_dict(raw["state"]), moments_from_dict(raw["rows"]), reference, deep, taken)


def read_baseline(artifact: Artifact) -> Baseline:
    """The artifact's baseline.

    Raises:
        ArtifactError: it does not fit the manifest's layers.
    """
    return parse_baseline(artifact.files[BASELINE], artifact.manifest, str(artifact.path / BASELINE))


def parse_baseline(content: bytes, manifest: Manifest, source: str) -> Baseline:
    """The baseline in `content`; `source` says in an error where it came from."""
    columns = 2 * len(manifest.layers)
    try:
        baseline = Baseline.from_json(content)
    except UNUSABLE as error:
        raise ArtifactError(f"{source} is not a baseline of this version: export the model again.") from error
    state, reference = baseline.state, baseline.reference
    sizes = {len(state.histograms)} | {
        len(getattr(moments, name)) for moments in (state.moments, baseline.rows) for name in Moments.__slots__
    }
    if sizes != {columns} or (reference and not reference.fits(columns)):
        raise ArtifactError(f"{source} has other layers than the manifest: export the model again.")
    if baseline.deep and not baseline.deep.fits(manifest.layers):
        raise ArtifactError(f"{source} has other features than the manifest: export the model again.")
    return baseline
