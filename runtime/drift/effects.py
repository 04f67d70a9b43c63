"""Effect sizes: how far a layer's traffic lies from its baseline, whatever the number of requests."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.statistics.histogram import bucket_values, bucket_width
from runtime.statistics.state import NormState

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
            Where the baseline is narrower than the histograms' buckets, the least that it can be.
        psi: population stability index over baseline deciles, the larger one; above 0.25 is commonly called large.
    """

    mean_shift: float
    log_variance_ratio: float
    wasserstein: float
    psi: float


def effect_sizes(live: NormState, baseline: NormState, layer: int, theirs: int | None = None) -> EffectSizes | None:
    """Effect sizes of layer number `layer`; None where no live token was seen.

    Args:
        theirs: the layer's number in the baseline, where it is another one.
    """
    here = slice(2 * layer, 2 * layer + 2)
    there = here if theirs is None else slice(2 * theirs, 2 * theirs + 2)
    if not live.moments.count[here].all():
        return None
    (mean, variance), (usual_mean, usual_variance) = live.moments.mean[here], baseline.moments.mean[there]
    sigma = np.maximum(baseline.moments.std[there], 1e-12)
    ratio = max(variance, 1e-12) / max(usual_variance, 1e-12)
    columns = list(zip(live.histograms[here], baseline.histograms[there], strict=True))
    shifts = np.abs(live.moments.mean[here] - baseline.moments.mean[there])
    widths = bucket_width(baseline.moments.mean[there])
    areas = np.array([wasserstein(seen, usual) for seen, usual in columns])
    areas = np.where(widths > sigma, np.maximum(areas - widths, shifts), areas)
    return EffectSizes(
        mean_shift=float((mean - usual_mean) / sigma[0]),
        log_variance_ratio=float(np.log(ratio)),
        wasserstein=float((areas / sigma).max()),
        psi=max(stability_index(seen, usual) for seen, usual in columns),
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
