"""Which precision an artifact gets: the one that was asked for, or the fastest that answers as float32 does."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import geometric_mean
from typing import Any

from export.precision.tolerances import COSINES, Cosines
from export.timing import with_manifest
from runtime.artifact import Artifact
from runtime.errors import ArtifactError, ExportError
from runtime.manifest import Task
from runtime.precision import TRIALS, LowPrecision, PrecisionChoice

TRIED: tuple[LowPrecision, ...] = ("bf16", "int8")  # fp16 is for GPUs: a CPU has no fast kernels for it
LEAST_COSINE = 0.999  # on average, of what `auto` takes
LEAST_AGREEMENT = 0.99  # of a classifier's labels, likewise
WORST = 5  # times as far from 1 as the average may the worst be, where the user names the average

Lowered = tuple[Artifact, dict[str, float]]  # and the errors that were met


@dataclass(frozen=True, slots=True)
class Asked:
    """What the user wants.

    Attributes:
        min_cosine: least cosine between vectors and those of float32, on average; None: by precision.
    """

    precision: PrecisionChoice = "fp32"
    min_cosine: float | None = None

    def cosines(self, kind: LowPrecision, task: Task) -> Cosines:
        """The least ones, on average and the worst; of a classifier, `auto` looks at labels."""
        auto = self.precision == "auto" and task != "classification"
        least = LEAST_COSINE if auto and self.min_cosine is None else self.min_cosine
        return COSINES[kind] if least is None else (least, max(-1.0, 1 - WORST * (1 - least)))


EXACT = Asked()


def choose(
    exact: Lowered, asked: Asked, lower: Callable[[LowPrecision], Lowered], tried: Sequence[LowPrecision] = TRIED
) -> Lowered:
    """The artifact in the precision that was asked for; of `auto`, what was measured of each is kept in `training`.

    Args:
        exact: in float32.
        lower: makes the same in lower precision, or raises ExportError where it changes too much.
        tried: by `auto`.

    Raises:
        ExportError: of a precision that was named.
    """
    if asked.precision == "fp32":
        return exact
    if asked.precision != "auto":
        try:
            return lower(asked.precision)
        except ArtifactError as error:
            raise ExportError(f"The model does not run in {asked.precision} ({why(error)}): choose another.") from error
    best, speed, trials = exact, 1.0, dict[str, dict[str, Any]]()
    for kind in tried:
        try:
            found = lower(kind)
            check_agreement(found[0], kind)
        except (ExportError, ArtifactError) as error:  # the latter where it does not run, or not as float32 does
            trials[kind] = {"refused": why(error)}
            continue
        trials[kind] = facts(found[0])
        if (faster := geometric_mean(trials[kind]["speed"].values())) > speed:
            best, speed = found, faster
    artifact, errors = best
    training = artifact.manifest.training | {TRIALS: trials}
    return with_manifest(artifact, training=training), errors


def why(error: Exception) -> str:
    """What was wrong, without what to do about it."""
    return str(error).rpartition(": ")[0] or str(error)


def check_agreement(artifact: Artifact, kind: LowPrecision) -> None:
    measured = artifact.manifest.precision
    agreement = measured.agreement if measured else None
    if agreement is not None and agreement < LEAST_AGREEMENT:
        raise ExportError(f"In {kind} {agreement:.2%} of the labels are the same, less than {LEAST_AGREEMENT:.0%}: no.")


def facts(artifact: Artifact) -> dict[str, Any]:
    """What a person chooses by."""
    measured = artifact.manifest.precision
    assert measured is not None
    names = ("speed", "mean_cosine", "worst_cosine", "recall", "agreement")
    return {name: value for name in names if (value := getattr(measured, name)) is not None}
