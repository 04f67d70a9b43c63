"""Effect sizes: how far a layer's traffic lies from its baseline, whatever the number of requests."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.histogram import bucket_values
from runtime.statistics import NormState

BINS = 10  # of the population stability index, equally full in the baseline
LEAST_SHARE = 1e-4  # of a bin, so that an empty one has a logarithm
_STEPS = np.diff(bucket_values())


@dataclass(frozen=True, slots=True)
class EffectSizes:
    """Distances of one layer's live tokens from its baseline.

    Attributes:
        mean_shift: difference of the average token mean, in baseline sigma.
        log_variance_ratio: ln(average live variance / average baseline variance).
        wasserstein: area between the distribution functions, in baseline sigma; the larger one of mean and variance.
        psi: population stability index over baseline deciles, the larger one; above 0.25 is commonly called large.
    """

    mean_shift: float
    log_variance_ratio: float
    wasserstein: float
    psi: float


def effect_sizes(live: NormState, baseline: NormState, layer: int) -> EffectSizes | None:
    """Effect sizes of layer number `layer`; None where no live token was seen."""
    mean, variance = 2 * layer, 2 * layer + 1
    if not (live.moments.count[mean] and live.moments.count[variance]):
        return None
    sigma = np.maximum(baseline.moments.std, 1e-12)
    shift = (live.moments.mean - baseline.moments.mean) / sigma
    ratio = max(live.moments.mean[variance], 1e-12) / max(baseline.moments.mean[variance], 1e-12)
    columns = [(live.histograms[c], baseline.histograms[c], sigma[c]) for c in (mean, variance)]
    return EffectSizes(
        mean_shift=float(shift[mean]),
        log_variance_ratio=float(np.log(ratio)),
        wasserstein=max(wasserstein(mine, theirs) / float(s) for mine, theirs, s in columns),
        psi=max(stability_index(mine, theirs) for mine, theirs, _ in columns),
    )


def wasserstein(live: NDArray[np.int64], baseline: NDArray[np.int64]) -> float:
    """1-Wasserstein distance of two histograms [B]: the area between their distribution functions."""
    difference = np.cumsum(live) / live.sum() - np.cumsum(baseline) / baseline.sum()
    return float((np.abs(difference[:-1]) * _STEPS).sum())


def stability_index(live: NDArray[np.int64], baseline: NDArray[np.int64]) -> float:
    """Population stability index of two histograms [B]: sum of (p - q) ln(p / q) over baseline deciles."""
    share_below = (np.cumsum(baseline) - baseline / 2) / baseline.sum()
    decile = np.minimum((share_below * BINS).astype(int), BINS - 1)
    p, q = (
        np.maximum(np.bincount(decile, weights=counts, minlength=BINS) / counts.sum(), LEAST_SHARE)
        for counts in (live, baseline)
    )
    return float(((p - q) * np.log(p / q)).sum())
