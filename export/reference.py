"""Fits the reference that drift is judged by, on the validation data alone (docs/drift.md)."""

# R requests, C classes, K columns in P pairs and one more, G scores

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from runtime.drift.detector import Reference, window_scores
from runtime.drift.mix import FALSE_ALARMS, WINDOW_SIZES, calibrate_mix
from runtime.drift.numbers import NOT_FITTED, UNSURE, Floats, Unlikeness, with_unlikeness

MIN_REQUESTS, PER_CLASS = 60, 4  # with fewer in all, or of a predicted class on average, nothing can be calibrated
RIDGE = 0.02  # towards the identity, in the correlation of two columns
CLIP = 6.0  # sigma of all validation requests
CONSTANT = 1e-12  # a variance below which a column says nothing, such as the length of inputs that are all as long
# What a class's mean may differ by between baseline and live, as a share of single requests' variance: as much again as
# sampling explains, within these bounds.
LEAST_INSTABILITY, MOST_INSTABILITY = 0.01, 0.05
COMMON = 0.0006  # what all classes' common place may differ by, in the same measure
FEW = 100.0  # times 1 / rows^2: the same, since of few rows the spread is not known well either
# how the false alarms are shared out; calibration scales them together
INPUT, LAYERS, OUTPUT, COMMON_DIRECTION, UNLIKENESS = 0.12, 0.08, 0.08, 0.12, 0.6
NULL_ALARMS = 1.2 * FALSE_ALARMS  # of windows drawn from the baseline itself, before its own uncertainty is allowed for
EXPONENT = 1.5  # of -ln p
WEAK = 1e-3  # a ridge on the slope: of requests that are all told apart, it would grow without end
KNOTS = 200  # of the unlikeness: every one of the rarest requests, and fewer the commoner they are
DRAWS = 10_000  # null windows per size


def fit_reference(
    features: Floats,
    classes: np.ndarray,
    num_classes: int,
    right: np.ndarray | None = None,
    instability: float = LEAST_INSTABILITY,
    seed: int = 0,
) -> Reference | None:
    """The reference for requests of which the graph says `features` [R, 2L + 5], and their predicted classes [R].

    Args:
        right: whether each class is the right one [R], where that is known.
        instability: the least of a class's mean, as a share of single requests' variance.

    Returns:
        None where they are too few.
    """
    if len(features) < max(MIN_REQUESTS, PER_CLASS * len(np.unique(classes))):
        return None
    unlikeness = fit_unlikeness(features, right)
    x = with_unlikeness(features, unlikeness)
    bounds = x.mean(0) + CLIP * np.outer([-1, 1], x.std(0))
    bounds[:, -1] = 0.0, unlikeness.values.max()  # it has an end of its own
    x = np.clip(x, *bounds)
    counts = np.bincount(classes, minlength=num_classes).astype(float)
    around = fit_classes(x, classes, counts, instability)
    precision = pair_precision(around.unit)
    directions = np.stack([common_direction(around.unit), np.eye(1, x.shape[1], x.shape[1] - 1)[0]])
    return Reference(
        bounds=bounds,
        class_means=around.means,
        variance=around.variance,
        class_variance=around.class_variance,
        precision=precision,
        directions=directions,
        counts=counts,
        window_thresholds=window_thresholds(around.unit, precision, directions, seed),
        mix_thresholds=calibrate_mix(counts),
        center_variance=(COMMON + FEW / len(x) ** 2) * around.variance,
        unlikeness=unlikeness,
    )


class AroundClasses(NamedTuple):
    """How requests lie around their predicted class.

    Attributes:
        means: of the classes [C, K], shrunk towards the average of all.
        variance: of single requests around their class [K].
        class_variance: what is not known of each class's mean [C, K].
        unit: the requests [R, K], each as if it were new, in sigma.
    """

    means: Floats
    variance: Floats
    class_variance: Floats
    unit: Floats


def fit_classes(x: Floats, classes: np.ndarray, counts: Floats, instability: float) -> AroundClasses:
    """Fits the classes' means to requests `x` [R, K]; `counts` [C] of each class."""
    sums = np.zeros((len(counts), x.shape[1]))
    np.add.at(sums, classes, x)
    within, between = variance_components(x, classes, counts, sums)
    unstable = within * np.clip(1 / np.maximum(counts, 1), instability, MOST_INSTABILITY)[:, None]

    def weight(count: Floats, unstable: Floats) -> Floats:
        """How much of a class's own mean is believed (empirical Bayes; Efron & Morris 1973)."""
        own = between / (between + unstable + within / np.maximum(count, 1))
        return np.where(count > 0, own, 0.0)

    own, means = weight(counts[:, None], unstable), sums / np.maximum(counts, 1)[:, None]
    overall = (own * means).sum(0) / own.sum(0)
    others = counts[classes][:, None] - 1
    mean_of_others = (sums[classes] - x) / np.maximum(others, 1)
    unseen = x - overall - weight(others, unstable[classes]) * (mean_of_others - overall)
    unit = unseen / np.sqrt(np.square(unseen).mean(0) + CONSTANT)
    return AroundClasses(overall + own * (means - overall), within, between * (1 - own) + unstable, unit)


def fit_unlikeness(features: Floats, right: np.ndarray | None) -> Unlikeness:
    """Ranks the baseline's requests by how unsure the model is of them; arguments as `fit_reference`."""
    unsure = features[:, -1:-3:-1] * (1, -1)
    scale = np.maximum(unsure.std(0), np.sqrt(CONSTANT))
    empty = Unlikeness(unsure.mean(0), scale, np.zeros(1), np.zeros(1), fit_platt(features, right), EXPONENT)
    ranked, count = np.sort(empty.sums(features))[::-1], len(features)
    places = np.unique(np.round(np.geomspace(1, count, KNOTS)).astype(int)) - 1
    knots, last = np.unique(ranked[places][::-1], return_index=True)
    p = (places[::-1][last] + 0.5) / count
    return replace(empty, knots=knots, values=(-np.log(p)) ** EXPONENT)


def fit_platt(features: Floats, right: np.ndarray | None) -> Floats:
    """Slope and intercept from the logit of the top probability to that of being right; 1 and 0 where it is unknown."""
    if right is None or len(np.unique(right)) < 2:
        return np.array(NOT_FITTED)
    top = np.clip(np.exp(-features[:, -3]), UNSURE, 1 - UNSURE)
    return fit_logistic(np.log(top / (1 - top)), right)


def fit_logistic(x: Floats, right: np.ndarray) -> Floats:
    """Slope and intercept of a logistic regression on one column [R], by Newton's method; the slope is held by WEAK.

    The serving image, in which ONNX files are adopted, has neither scikit-learn nor scipy.
    """
    columns, held, fitted = np.stack([x, np.ones(len(x))], axis=1), np.array([WEAK, 0.0]), np.zeros(2)

    def loss(weights: Floats) -> float:
        logits = columns @ weights
        return float(np.logaddexp(0, np.where(right, -logits, logits)).sum() + 0.5 * held @ np.square(weights))

    for _ in range(100):
        p = 1 / (1 + np.exp(-np.clip(columns @ fitted, -500, 500)))
        gradient = columns.T @ (p - right) + held * fitted
        curvature = (columns * (p * (1 - p))[:, None]).T @ columns + np.diag(held + 1e-12)
        step = np.linalg.solve(curvature, gradient)
        while loss(fitted - step) > loss(fitted) and np.abs(step).max() > 1e-12:
            step = step / 2
        fitted = fitted - step
        if np.abs(step).max() <= 1e-10:
            break
    return fitted


def variance_components(x: Floats, classes: np.ndarray, counts: Floats, sums: Floats) -> tuple[Floats, Floats]:
    """Variance of single requests around their class, and of the classes' means, per column (one-way ANOVA)."""
    used = max(int((counts > 0).sum()), 2)
    means = sums / np.maximum(counts, 1)[:, None]
    within = np.square(x - means[classes]).sum(0) / max(len(x) - used, 1) + CONSTANT
    spread = (counts[:, None] * np.square(means - x.mean(0))).sum(0) / (used - 1)
    per_class = (len(x) - np.square(counts).sum() / len(x)) / (used - 1)
    return within, np.maximum((spread - within) / max(per_class, 1.0), 1e-3 * within)


def pair_precision(unit: Floats) -> Floats:
    """[P, 2, 2]: the inverse correlation of the two columns of input, layers and output, shrunk by RIDGE."""
    together = (unit[:, 0:-1:2] * unit[:, 1::2]).mean(0)
    blocks = np.tile(np.eye(2), (len(together), 1, 1))
    blocks[:, 0, 1] = blocks[:, 1, 0] = (1 - RIDGE) * together
    return np.linalg.inv(blocks).astype(np.float64)


def common_direction(unit: Floats) -> Floats:
    """[K]: the layers' 1/variance, each signed as it goes with the unlikeness of single requests; of unit variance.

    What moves all layers a little, such as noise, shows here before it shows at any of them.
    """
    direction = np.zeros(unit.shape[1])
    direction[3:-3:2] = np.sign(unit[:, -1] @ unit[:, 3:-3:2])
    constant = 1 - np.square(unit).mean(0)  # of columns that do not vary, which count as if they did
    size = np.sqrt(np.square(unit @ direction).mean() + constant @ np.square(direction))
    return direction / size if size > 0 else direction


def window_thresholds(unit: Floats, precision: Floats, directions: Floats, seed: int) -> Floats:
    """The thresholds of every score and window size [G, S]."""
    rng = np.random.default_rng(seed)
    each = [calibrate(null_scores(unit, size, precision, directions, rng)) for size in WINDOW_SIZES]
    return np.stack(each, axis=1)


def null_scores(unit: Floats, size: int, precision: Floats, directions: Floats, rng: np.random.Generator) -> Floats:
    """Scores [DRAWS, G] of windows of `size` validation requests, each as if it were new."""
    total = np.zeros((DRAWS, unit.shape[1]))
    for _ in range(size // 10):
        for one_of_each in rng.integers(len(unit), size=(DRAWS, 10)).T:  # ten at a time would take ten times the memory
            total += unit[one_of_each]
    return window_scores(total / np.sqrt(size // 10 * 10), precision, directions)


def calibrate(scores: Floats) -> Floats:
    """Thresholds [G] whose union fires on NULL_ALARMS of null windows, shared out over all scores."""
    layers = scores.shape[1] - 4
    share = np.array([INPUT, *[LAYERS / layers] * layers, OUTPUT, COMMON_DIRECTION, UNLIKENESS])
    ranked = np.sort(scores, axis=0)[::-1]

    def at(level: float) -> Floats:
        rank = np.clip((level * share * len(scores)).astype(int), 0, len(scores) - 1)
        thresholds: Floats = np.take_along_axis(ranked, rank[None], axis=0)[0]
        return thresholds

    level = bisect(lambda level: float((scores > at(level)).any(1).mean()), NULL_ALARMS, 8 * NULL_ALARMS)
    return at(level)


def bisect(rate: Callable[[float], float], low: float, high: float) -> float:
    """The largest level whose rate stays below NULL_ALARMS."""
    for _ in range(25):
        middle = (low + high) / 2
        low, high = (middle, high) if rate(middle) < NULL_ALARMS else (low, middle)
    return low
