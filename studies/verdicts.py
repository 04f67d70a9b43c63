"""From paired measures to a verdict, by rules that were fixed before the runs.

A comparison holds if the median difference is as large as matters, its 95 % interval does not reach zero, and, with ten
seeds, Wilcoxon's p is at most .05 after Holm's correction within the claim. It is opposite if all that is so the other
way round, smaller if the whole interval lies below what matters, and otherwise it cannot be told from noise. Where two
arms are expected alike, the whole interval has to lie within the margin; it is opposite if all of it lies outside.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.multitest import multipletests

from studies.claim import FULL, Claim, Comparison, Results

LEVEL, RESAMPLES, SEED = 0.05, 9999, 0
Outcome = Literal["holds", "smaller", "opposite", "unclear"]
Verdict = Literal["supported", "conditional", "contradicted", "unclear"]


@dataclass(frozen=True, slots=True)
class Effect:
    """How `b` differs from `a`, over paired seeds.

    Attributes:
        median: of the differences b - a.
        low, high: its 95 % interval, by the bootstrap (percentiles).
        delta: Cliff's delta, -1 to 1: how much more often b is above a than below.
        p: Wilcoxon's signed-rank test, exact, two-sided; 1 where all pairs are equal.
        broken: values of a and of b that are not finite; they count as beyond all others.
    """

    median: float
    low: float
    high: float
    delta: float
    p: float
    broken: tuple[int, int]


def effect(a: NDArray[np.float64], b: NDArray[np.float64]) -> Effect:
    """Compares paired values [seeds]."""
    broken = int((~np.isfinite(a)).sum()), int((~np.isfinite(b)).sum())
    a, b = (np.where(np.isnan(values), np.inf, values) for values in (a, b))
    with np.errstate(invalid="ignore"):
        differences = np.where(a == b, 0.0, b - a)
    low, high = interval(differences)
    return Effect(float(np.median(differences)), low, high, cliffs_delta(a, b), wilcoxon(differences), broken)


def interval(differences: NDArray[np.float64]) -> tuple[float, float]:
    """Where the median of the differences [seeds] lies, with 95 % confidence; infinite differences are kept."""
    if np.ptp(np.nan_to_num(differences)) == 0:
        return float(differences[0]), float(differences[0])
    largest = 10 * np.abs(differences[np.isfinite(differences)]).max(initial=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        found = stats.bootstrap(
            (np.clip(differences, -largest, largest),), np.median, n_resamples=RESAMPLES, method="percentile", rng=SEED
        ).confidence_interval
    low, high = (float(np.inf * np.sign(end)) if abs(end) >= largest else float(end) for end in found)
    return low, high


def cliffs_delta(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """2 U / (n m) - 1, of Mann and Whitney's U (Cliff 1993, doi:10.1037/0033-2909.114.3.494)."""
    return float(2 * stats.mannwhitneyu(b, a).statistic / (len(a) * len(b)) - 1)


def wilcoxon(differences: NDArray[np.float64]) -> float:
    if not differences.any():
        return 1.0
    largest = 10 * np.abs(differences[np.isfinite(differences)]).max(initial=1.0)
    clipped = np.clip(differences, -largest, largest)
    nonzero = clipped[clipped != 0]
    ties = len(np.unique(np.abs(nonzero))) < len(nonzero) or len(nonzero) < len(clipped)
    method = stats.PermutationMethod(rng=SEED) if ties else "exact"
    return float(stats.wilcoxon(clipped, zero_method="pratt" if ties else "wilcox", method=method).pvalue)


def outcome(comparison: Comparison, found: Effect, p: float, full: bool) -> Outcome:
    """What becomes of a comparison; `p` is corrected, and counts with all seeds only: three can never reach LEVEL."""
    margin, told = comparison.margin, not full or p <= LEVEL
    if comparison.expected == "alike":
        if -margin <= found.low and found.high <= margin:
            return "holds"
        outside = found.low > margin or found.high < -margin
        return "opposite" if outside and told else "unclear"
    if found.median >= margin and found.low > 0 and told:
        return "holds"
    if found.median <= -margin and found.high < 0 and told:
        return "opposite"
    return "smaller" if found.high < margin else "unclear"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a claim's runs say.

    Attributes:
        full: whether all ten seeds are in it; otherwise it is exploratory.
        effects, p, outcomes: of each comparison; p after Holm's correction.
    """

    full: bool
    effects: list[Effect]
    p: list[float]
    outcomes: list[Outcome]

    @property
    def verdict(self) -> Verdict:
        """Supported where all comparisons hold, contradicted where none does and one could be told."""
        found = set(self.outcomes)
        if found == {"holds"}:
            return "supported"
        if "holds" in found:
            return "conditional"
        return "unclear" if found == {"unclear"} else "contradicted"


def judge(claim: Claim, results: Results, seeds: Sequence[int]) -> Finding:
    """Compares what was fixed, over these seeds."""
    full = len(seeds) == len(FULL)
    effects = [
        effect(
            results.values(each.measure, seeds, **each.a),
            results.values(each.measure_of_b or each.measure, seeds, **each.b),
        )
        for each in claim.comparisons
    ]
    corrected = [float(p) for p in multipletests([each.p for each in effects], LEVEL, method="holm")[1]]
    outcomes = [
        outcome(comparison, found, p, full)
        for comparison, found, p in zip(claim.comparisons, effects, corrected, strict=True)
    ]
    return Finding(full, effects, corrected, outcomes)
