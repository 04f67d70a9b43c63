"""Whether the graph that is served gives what was adopted: the answers and the statistics, together and alone."""

# R rows, N valid tokens, L norm layers

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from export.adopt.baseline import in_runs
from export.precision.tolerances import COSINES, Cosines
from runtime.errors import ExportError
from runtime.graph.batch import EncodedBatch, join, unit
from runtime.graph.encoder import Encoder
from runtime.graph.packing import Tokens
from runtime.precision import PrecisionKind

# of the largest value of its kind; a mean of its token's sigma, 1/sigma relative
LIMITS = {"logits": 1e-5, "embedding": 1e-5, "means": 1e-4, "inverse_deviations": 1e-4, "packed_against_alone": 1e-5}


@dataclass(frozen=True, slots=True)
class Expected:
    """What the adopted network gives of its own.

    Attributes:
        answers: logits [R, C], where the network has them, and embedding [R, D].
        norm_statistics: [N, 2L], valid tokens only, row after row.
    """

    answers: dict[str, NDArray[np.float64]]
    norm_statistics: NDArray[np.float64]


class Reference(Protocol):
    """Runs what was adopted.

    Attributes:
        name: what it is, for messages.
    """

    name: str

    def run(self, sequences: Sequence[Tokens]) -> Expected:
        """One text at a time, so that nothing can leak from one to another."""


def verify(
    encoder: Encoder,
    reference: Reference,
    sequences: Sequence[Tokens],
    precision: PrecisionKind = "fp32",
    least: Cosines | None = None,
) -> dict[str, float]:
    """Compares the graph, on batches, with the reference.

    Args:
        least: cosines of embeddings in lower precision, on average and the worst; None: by precision.

    Returns:
        The largest error of each kind that was met; in lower precision, one less the cosines of embeddings beside them.

    Raises:
        ExportError: one is too large.
    """
    expected = check_expected(reference.run(sequences))
    found = run_together(encoder, sequences)
    alone = np.concatenate([encoder.run([sequence]).embedding for sequence in sequences])
    errors = value_errors(found, expected)
    errors["packed_against_alone"] = relative(found.embedding, alone)
    limits = LIMITS
    if precision != "fp32":
        wanted = expected.answers["embedding"].astype(np.float32)
        cosines = np.vecdot(unit(found.embedding), unit(wanted))
        errors |= {"mean_cosine": float(1 - cosines.mean()), "worst_cosine": float(1 - cosines.min())}
        mean, worst = least or COSINES[precision]
        limits = {"mean_cosine": 1 - mean, "worst_cosine": 1 - worst}
    for kind, error in errors.items():
        if not error <= limits.get(kind, np.finfo(np.float32).max):
            raise ExportError(f"The graph's {kind} differ from {reference.name} by {error:.2e}: nothing was written.")
    return errors


def check_expected(expected: Expected) -> Expected:
    """Refuses a network that tells nothing by itself: no graph can be compared with it."""
    for kind, values in (expected.answers | {"norm_statistics": expected.norm_statistics}).items():
        fault = "NaN or infinite" if not np.isfinite(values).all() else "all zero" if not values.any() else None
        if fault and values.size:
            raise ExportError(
                f"The network's own {kind} are {fault} for the baseline's texts, before any export: "
                "the weights must be those of a trained model, download or save it again."
            )
    return expected


def run_together(encoder: Encoder, sequences: Sequence[Tokens]) -> EncodedBatch:
    """In batches of texts of all lengths."""
    runs = in_runs(range(len(sequences)), [len(sequence) for sequence in sequences])
    return join([encoder.run([sequences[place] for place in run]) for run in runs])


def value_errors(found: EncodedBatch, expected: Expected) -> dict[str, float]:
    errors = {name: relative(getattr(found, name), values) for name, values in expected.answers.items()}
    inv_std = expected.norm_statistics[:, 1::2]
    means = np.abs(found.norm_statistics[:, 0::2] - expected.norm_statistics[:, 0::2]) * inv_std
    deviations = np.abs(found.norm_statistics[:, 1::2] / inv_std - 1)
    if means.size:
        errors |= {"means": float(means.max()), "inverse_deviations": float(deviations.max())}
    return errors


def relative(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """The largest difference over the largest value."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())
