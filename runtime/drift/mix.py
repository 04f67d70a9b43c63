"""Whether classes are mixed otherwise than in the baseline, and what windows of every size may show by chance."""

# C classes, S window sizes

from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.drift.numbers import Floats
from runtime.statistics.traffic import Traffic

WINDOW_SIZES = (20, 50, 100, 200, 500, 1000)  # requests, with thresholds of their own; interpolated between
MIX_SIZES = (*WINDOW_SIZES, 2000, 5000, 20000, 100000)
FALSE_ALARMS = 0.01  # of null windows, at most
MIX_DRAWS = 2_000  # null windows per size
MIX_FLOOR = 0.10  # total variation between class shares: smaller differences are never a mix shift
MIX_TRUST = 0.03  # of single requests' variance: by what classes' means may differ when others are asked for, too


def mix_shifted(traffic: Traffic, expected: Floats, thresholds: Floats) -> bool:
    """Whether the predicted classes are mixed otherwise than the baseline's [C]; a threshold for each of MIX_SIZES."""
    count, effective = traffic.requests, traffic.effective
    shares = (expected + 0.5) / (expected + 0.5).sum()
    distance = np.abs(traffic.counts / count - shares).sum() / 2
    threshold = interpolate(effective, MIX_SIZES, thresholds)
    return bool(mix_score(effective / count * traffic.counts, expected) > threshold and distance > MIX_FLOOR)


def mix_distance(counts: NDArray[Any], others: Floats) -> float:
    """How unlike two mixes of classes are [C]: |p - q|^2 / (|p|^2 + |q|^2), without what sampling adds; 0 to 1."""

    def square(counts: NDArray[Any], total: float) -> float:
        return float(max(counts @ counts - total, 0.0) / max(total * (total - 1), 1.0))

    n, m = float(counts.sum()), float(others.sum())
    both = square(counts, n) + square(others, m)
    distance = both - 2 * float(counts @ others) / (n * m)
    return min(max(distance / both, 0.0), 1.0) if both > 0 else 1.0


def mix_score(counts: NDArray[Any], expected: Floats) -> Floats:
    """Two-sample chi-square distance of class counts [..., C] from the expected ones, half a request added to each."""
    smoothed = expected + 0.5
    seen, total = counts.sum(-1, keepdims=True), smoothed.sum()
    difference = np.sqrt(total / seen) * counts - np.sqrt(seen / total) * smoothed
    score: Floats = (np.square(difference) / (counts + smoothed)).sum(-1)
    return score


def calibrate_mix(counts: Floats, draws: int = MIX_DRAWS, seed: int = 0) -> Floats:
    """The mix score that FALSE_ALARMS of windows of each of MIX_SIZES exceed, the classes' true shares being uncertain.

    Shares are drawn from a Dirichlet distribution, and windows from their multinomial.
    """
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(counts + 0.5, size=draws)
    scores = [mix_score(rng.multinomial(size, shares), counts) for size in MIX_SIZES]
    return np.array([np.quantile(found, 1 - FALSE_ALARMS) for found in scores])


def interpolate(count: float, sizes: tuple[int, ...], thresholds: Floats) -> float:
    """The threshold for a window of `count` requests, linear in log(count), constant beyond both ends."""
    return float(np.interp(np.log(count), np.log(sizes), thresholds))
