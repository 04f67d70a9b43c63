"""The baseline: normalization statistics of the validation data, through the exported graph itself.

Stored as JSON, so that a person can read it and any tool can merge it (runtime/state_document.py).
"""

import json
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from runtime.artifact import Artifact
from runtime.drift import Reference
from runtime.errors import ArtifactError
from runtime.manifest import BASELINE
from runtime.moments import Moments
from runtime.state_document import UNUSABLE, moments_from_dict, moments_to_dict, state_from_dict, state_to_dict
from runtime.statistics import NormState


@dataclass(frozen=True, slots=True)
class Baseline:
    """What normal traffic looks like.

    Attributes:
        state: of all validation tokens.
        rows: moments of the per-request averages of every column [2L]: how far single requests lie apart.
        reference: what windows are judged by; None where the validation data were too few to calibrate it.
    """

    state: NormState
    rows: Moments
    reference: Reference | None = None

    def z_scores(self, row_means: NDArray[np.float64]) -> NDArray[np.float64]:
        """How many standard deviations requests lie from the average validation request [R, 2L]; 0 where none vary."""
        std = self.rows.std
        return np.where(std > 0, (row_means - self.rows.mean) / np.where(std > 0, std, 1.0), 0.0)

    def to_json(self) -> bytes:
        content = {
            "state": state_to_dict(self.state),
            "rows": moments_to_dict(self.rows),
            "reference": self.reference.to_dict() if self.reference else None,
        }
        return json.dumps(content, separators=(",", ":"), allow_nan=False).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Self:
        raw = json.loads(content)
        reference = Reference.from_dict(raw["reference"]) if raw["reference"] else None
        return cls(state_from_dict(raw["state"]), moments_from_dict(raw["rows"]), reference)


def read_baseline(artifact: Artifact) -> Baseline:
    """The artifact's baseline.

    Raises:
        ArtifactError: it does not fit the manifest's layers.
    """
    path, columns = artifact.path / BASELINE, 2 * len(artifact.manifest.layers)
    try:
        baseline = Baseline.from_json(artifact.files[BASELINE])
    except UNUSABLE as error:
        raise ArtifactError(f"{path} is not a baseline of this version: export the model again.") from error
    state = baseline.state
    sizes = {len(state.histograms)} | {
        len(getattr(moments, name)) for moments in (state.moments, baseline.rows) for name in Moments.__slots__
    }
    reference = baseline.reference
    if sizes != {columns} or (reference and reference.precision.shape != (columns + 2, columns + 2)):
        raise ArtifactError(f"{path} has other layers than the manifest: export the model again.")
    return baseline
