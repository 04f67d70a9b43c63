"""Whether a fleet's statistics are those of one process that has seen everything, and what of them is missing."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from benchmarks.scaling.clients import Answer
from runtime.statistics.moments import Moments
from runtime.statistics.state import NormState

TOLERANCE = 1e-6  # of moments, relative: sums in another order


def wrong_labels(counts: Sequence[int], labels: Sequence[str], expected: Counter[str]) -> int:
    """How many answers more or fewer the classes have than clients counted."""
    found = Counter(dict(zip(labels, map(int, counts), strict=True)))
    return sum(abs(found[label] - expected[label]) for label in found | expected)


def worst_moment(found: Moments, expected: Moments) -> float:
    """The largest relative difference; infinite where they are of different numbers of values."""
    if not np.array_equal(found.count, expected.count):
        return float("inf")
    worst = 0.0
    for name in ("mean", "m2", "minimum", "maximum"):
        one, other = getattr(found, name), getattr(expected, name)
        scale = np.maximum(np.abs(other), 1e-9)
        worst = max(worst, float(np.max(np.abs(one - other) / scale, initial=0.0)))
    return worst


def missing_tokens(found: NormState, expected: NormState) -> float:
    """Tokens that the histograms lack; infinite where any bucket has more than it should."""
    lacking = expected.histograms - found.histograms
    return float("inf") if (lacking < 0).any() else float(lacking.sum(1).max(initial=0))


def missing_seconds(answers: Sequence[Answer], missing: int, killed: float) -> float:
    """Of how long before the end of a replica its last so many answers are.

    Args:
        answers: the replica's, in the order in which they came.
        killed: when it ended (Unix seconds).
    """
    if missing <= 0:
        return 0.0
    return float("inf") if missing > len(answers) else max(0.0, killed - answers[-missing].when)
