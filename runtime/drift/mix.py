"""Whether classes are mixed otherwise than in the baseline, and what windows of every size may show by chance."""

# C classes, S window sizes

from collections.abc import Callable, Sequence
from functools import partial
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.drift.numbers import Floats
from runtime.statistics.traffic import Traffic

WINDOW_SIZES = (20, 50, 100, 200, 500, 1000)  # requests, with thresholds of their own; interpolated between
MIX_SIZES = (*WINDOW_SIZES, 2000, 5000, 20000, 100000)
FALSE_ALARMS = 0.01  # of null windows, at most
NORMAL = NormalDist().inv_cdf(1 - FALSE_ALARMS)
MIX_DRAWS = 2_000  # null windows per size
MANY_CLASSES = 200  # of fewer, drawing windows takes a third of a second at most
AT_ONCE = 500_000  # numbers of windows that are drawn, for memory
MOST_SKEWNESS = 1.0  # of a score that is reckoned
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

    Shares have a Dirichlet distribution, and windows their multinomial. Of few classes, these are drawn. Of many, small
    windows are drawn request by request, and of large ones the distribution of the score is reckoned.
    """
    rng = np.random.default_rng(seed)

    def by_class(windows: int, sizes: Sequence[int] = MIX_SIZES) -> Floats:
        return scores_by_class(counts, sizes, windows, rng)

    def by_request(windows: int) -> Floats:
        return scores_by_request(counts, WINDOW_SIZES, windows, rng)

    if len(counts) < MANY_CLASSES:
        return thresholds(by_class, draws, len(counts))
    found = [*thresholds(by_request, draws, max(WINDOW_SIZES))]
    for size in MIX_SIZES[len(WINDOW_SIZES) :]:
        reckoned, skewness = reckon(counts, size)
        if skewness > MOST_SKEWNESS:
            (reckoned,) = thresholds(partial(by_class, sizes=(size,)), draws, len(counts))
        found.append(reckoned)
    return np.array(found)


def thresholds(draw: Callable[[int], Floats], draws: int, cells: int) -> Floats:
    """What FALSE_ALARMS of null windows of each size exceed [S].

    Args:
        draw: gives the scores of so many windows [S, windows].
        cells: how many numbers a window takes while it is drawn.
    """
    most = max(AT_ONCE // max(cells, 1), 1)
    scores = [draw(min(most, draws - drawn)) for drawn in range(0, draws, most)]
    found: Floats = np.quantile(np.concatenate(scores, axis=1), 1 - FALSE_ALARMS, axis=1)
    return found


def scores_by_class(counts: Floats, sizes: Sequence[int], windows: int, rng: np.random.Generator) -> Floats:
    """Scores of null windows [S, windows], drawn class by class: takes time for classes, whatever the size."""
    shares = rng.dirichlet(counts + 0.5, size=windows)
    return np.array([mix_score(rng.multinomial(size, shares), counts) for size in sizes])


def scores_by_request(counts: Floats, sizes: Sequence[int], windows: int, rng: np.random.Generator) -> Floats:
    """The same, drawn request by request: takes time for the largest size, whatever the classes.

    By Polya's urn (Blackwell & MacQueen 1973): the next request is as likely of a class as its expected count, half a
    request, and those of it so far say together. The first requests of a window are a smaller window.
    """
    ends, most = np.cumsum(counts + 0.5), max(sizes)
    places = rng.random((windows, most)) * (ends[-1] + np.arange(most))
    classes = np.searchsorted(ends, places, side="right")
    for number in range(1, most):
        (again,) = np.nonzero(places[:, number] >= ends[-1])
        classes[again, number] = classes[again, (places[again, number] - ends[-1]).astype(np.int64)]
    return np.array([scores_of(classes[:, :size], counts) for size in sizes])


def scores_of(classes: NDArray[np.int64], expected: Floats) -> Floats:
    """`mix_score` of windows, given their requests' classes [windows, size]; classes without a request take no time."""
    windows, size = classes.shape
    ordered = np.sort(classes, axis=1)
    begins = np.ones(ordered.shape, dtype=bool)
    begins[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    firsts = np.flatnonzero(begins)
    counts, smoothed = np.diff(firsts, append=ordered.size), expected + 0.5
    squares = np.square(counts) / (counts + smoothed[ordered.ravel()[firsts]])
    total = smoothed.sum()
    score: Floats = (
        (total + size) / total * ((total + size) / size * np.bincount(firsts // size, squares, windows) - size)
    )
    return score


def reckon(counts: Floats, size: int) -> tuple[float, float]:
    """What FALSE_ALARMS of null windows of `size` exceed, and how skewed their scores are, without drawing any.

    Independent negative binomial counts are such a window, where their sum is given. So sums over classes have about
    a normal distribution around what the sum says (Holst 1979); corrected for skewness (Cornish & Fisher 1938), and for
    how far the score is no straight line of the sum.
    """
    smoothed = counts + 0.5
    total, mean = smoothed.sum(), 0.0
    weights, moved, said = [], [], []
    for shape, classes in zip(*np.unique(smoothed, return_counts=True), strict=True):
        seen, probabilities = negative_binomial(float(shape), size / total)
        scores = np.square(np.sqrt(total / size) * seen - np.sqrt(size / total) * shape) / (seen + shape)
        mean += classes * (probabilities @ scores)
        weights.append(classes * probabilities)
        moved.append(seen - probabilities @ seen)
        said.append(scores - probabilities @ scores)
    weight, count, score = (np.concatenate(parts) for parts in (weights, moved, said))
    spread = weight @ np.square(count)
    score -= (weight @ (score * count)) / spread * count
    mean -= weight @ (score * np.square(count)) / (2 * spread)
    deviation = np.sqrt(weight @ np.square(score))
    skewness = weight @ score**3 / deviation**3
    return float(mean + deviation * (NORMAL + (NORMAL**2 - 1) / 6 * skewness)), float(skewness)


def negative_binomial(shape: float, scale: float) -> tuple[NDArray[np.int64], Floats]:
    """The counts that a Poisson distribution may give, and their probabilities, where its mean is of a gamma
    distribution."""
    mean, tail = shape * scale, 1 + scale
    deviation = np.sqrt(mean * tail)
    counts = np.arange(max(int(mean - 10 * deviation), 0), int(mean + 10 * deviation + 30 * tail) + 1)
    steps = np.log((counts[:-1] + shape) / (counts[:-1] + 1) * (scale / tail))
    logarithms = np.concatenate([[0.0], np.cumsum(steps)])
    probabilities = np.exp(logarithms - logarithms.max())
    return counts, probabilities / probabilities.sum()


def interpolate(count: float, sizes: tuple[int, ...], thresholds: Floats) -> Floats:
    """Thresholds [...] for a window of `count` requests, of those of the sizes [..., S]: linear in log(count), constant
    beyond both ends."""
    place = float(np.interp(np.log(count), np.log(sizes), range(len(sizes))))
    below = min(int(place), len(sizes) - 2)
    one, other = thresholds[..., below], thresholds[..., below + 1]
    found: Floats = one + (place - below) * (other - one)
    return found
