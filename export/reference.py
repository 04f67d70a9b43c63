"""Fits the reference that drift is judged by, on the validation data alone (docs/drift.md)."""

# R requests, C classes, K columns, G scores

from collections.abc import Callable

import numpy as np

from runtime.drift.detector import FALSE_ALARMS, WINDOW_SIZES, Floats, Reference, calibrate_mix, window_scores

MIN_REQUESTS, PER_CLASS = 100, 4  # with fewer in all, or of a predicted class on average, nothing can be calibrated
RIDGE = 0.02  # towards the identity, in the correlation of two columns
CLIP = 6.0  # sigma of all validation requests
CONSTANT = 1e-12  # a variance below which a column says nothing, such as the length of inputs that are all as long
INSTABILITY = (
    0.05  # what of a class's mean may differ between validation and live, as a share of single requests' variance
)
# how the false alarms are shared out; calibration scales them together
INPUT, LAYERS, OUTPUT, CONSENSUS = 0.15, 0.15, 0.25, 0.45
DRAWS = 10_000  # null windows per size


def fit_reference(features: Floats, classes: np.ndarray, num_classes: int, seed: int = 0) -> Reference | None:
    """The reference for requests with these numbers [R, K] and predicted classes [R]; None where they are too few."""
    if len(features) < max(MIN_REQUESTS, PER_CLASS * len(np.unique(classes))):
        return None
    bounds = features.mean(0) + CLIP * np.outer([-1, 1], features.std(0))
    x = np.clip(features, *bounds)
    counts = np.bincount(classes, minlength=num_classes).astype(float)
    sums = np.zeros((num_classes, x.shape[1]))
    np.add.at(sums, classes, x)
    within, between = variance_components(x, classes, counts, sums)
    unstable = INSTABILITY * within

    def weight(count: Floats) -> Floats:
        """How much of a class's own mean is believed (empirical Bayes; Efron & Morris 1973)."""
        own = between / (between + unstable + within / np.maximum(count, 1))
        return np.where(count > 0, own, 0.0)

    own, means = weight(counts[:, None]), sums / np.maximum(counts, 1)[:, None]
    overall = (own * means).sum(0) / own.sum(0)
    others = counts[classes][:, None] - 1
    mean_of_others = (sums[classes] - x) / np.maximum(others, 1)
    unseen = x - overall - weight(others) * (mean_of_others - overall)  # each request as if it were new
    unit = unseen / np.sqrt(np.square(unseen).mean(0) + CONSTANT)
    correlation = unit.T @ unit / len(unit)
    np.fill_diagonal(correlation, 1.0)
    precision, direction = pair_precision(correlation), unsure_direction(correlation)
    rng = np.random.default_rng(seed)
    return Reference(
        bounds=bounds,
        class_means=overall + own * (means - overall),
        variance=within,
        class_variance=between * (1 - own) + unstable,
        precision=precision,
        direction=direction,
        counts=counts,
        window_thresholds=np.stack(
            [calibrate(null_scores(unit, size, precision, direction, rng)) for size in WINDOW_SIZES], axis=1
        ),
        mix_thresholds=calibrate_mix(counts),
        center_variance=np.zeros(x.shape[1]),
    )


def variance_components(x: Floats, classes: np.ndarray, counts: Floats, sums: Floats) -> tuple[Floats, Floats]:
    """Variance of single requests around their class, and of the classes' means, per column (one-way ANOVA)."""
    used = max(int((counts > 0).sum()), 2)
    means = sums / np.maximum(counts, 1)[:, None]
    within = np.square(x - means[classes]).sum(0) / max(len(x) - used, 1) + CONSTANT
    spread = (counts[:, None] * np.square(means - x.mean(0))).sum(0) / (used - 1)
    per_class = (len(x) - np.square(counts).sum() / len(x)) / (used - 1)
    return within, np.maximum((spread - within) / max(per_class, 1.0), 1e-3 * within)


def pair_precision(correlation: Floats) -> Floats:
    """[K, K]: the inverse correlation of the two columns of input, layers and output, shrunk by RIDGE."""
    precision = np.zeros_like(correlation)
    for first in range(0, len(correlation), 2):
        pair = slice(first, first + 2)
        precision[pair, pair] = np.linalg.inv((1 - RIDGE) * correlation[pair, pair] + RIDGE * np.eye(2))
    return precision


def unsure_direction(correlation: Floats) -> Floats:
    """[K]: each layer's 1/variance, with the sign that goes with a low top probability; unit variance."""
    direction = np.zeros(len(correlation))
    signs = np.sign(correlation[3:-2:2, -2])  # 0 where there is one cluster: its probability is always 1
    direction[3:-2:2] = np.where(signs, signs, -np.sign(correlation[3:-2:2, -1]))
    size = np.sqrt(direction @ correlation @ direction)
    return direction / size if size > 0 else direction


def null_scores(unit: Floats, size: int, precision: Floats, direction: Floats, rng: np.random.Generator) -> Floats:
    """Scores [DRAWS, G] of windows of `size` validation requests, each as if it were new."""
    total = np.zeros((DRAWS, unit.shape[1]))
    for _ in range(size // 10):  # ten requests of every window at a time, for memory
        total += unit[rng.integers(len(unit), size=(DRAWS, 10))].sum(1)
    return window_scores(total / np.sqrt(size // 10 * 10), precision, direction)


def calibrate(scores: Floats) -> Floats:
    """Thresholds [G] whose union fires on FALSE_ALARMS of null windows, shared out over all scores."""
    layers = scores.shape[1] - 3
    share = np.array([INPUT, *[LAYERS / layers] * layers, OUTPUT, CONSENSUS])
    ranked = np.sort(scores, axis=0)[::-1]

    def at(level: float) -> Floats:
        rank = np.clip((level * share * len(scores)).astype(int), 0, len(scores) - 1)
        thresholds: Floats = np.take_along_axis(ranked, rank[None], axis=0)[0]
        return thresholds

    level = bisect(lambda level: float((scores > at(level)).any(1).mean()), FALSE_ALARMS, 8 * FALSE_ALARMS)
    return at(level)


def bisect(rate: Callable[[float], float], low: float, high: float) -> float:
    """The largest level whose rate stays below FALSE_ALARMS."""
    for _ in range(25):
        middle = (low + high) / 2
        low, high = (middle, high) if rate(middle) < FALSE_ALARMS else (low, middle)
    return low
