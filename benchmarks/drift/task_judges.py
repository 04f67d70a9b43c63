"""Outside judges of a task's windows: tests of where embeddings lie, by scikit-learn, beside KS tests of the output.

Each is set to alarm at LEVEL of windows drawn from the baseline's requests.
"""

# R requests, D d_model, W windows

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import cross_val_score

from benchmarks.drift.judges import LEVEL, ks
from benchmarks.drift.task_traffic import Requests, TaskWorld
from runtime.drift.numbers import Floats

NULLS = 1000  # windows of the baseline that a threshold is of
FEW_NULLS = 100  # of the slow judges
KERNEL_ROWS = 500  # of the baseline, and of a window

Score = Callable[[Requests], float]
TaskJudge = Callable[[Requests], bool]


def task_judges(world: TaskWorld, size: int) -> dict[str, TaskJudge]:
    """Judges of windows of so many requests."""
    output = slice(world.baseline.features.shape[1] - 3, world.baseline.features.shape[1] - 1)
    distances = mahalanobis(world)
    return {
        "KS, output": partial(ks_judge, world.baseline.features[:, output], output),
        **{name: above_null(world, size, mean_of(distance), NULLS) for name, distance in distances.items()},
        "MMD": above_null(world, size, partial(mmd, world), FEW_NULLS),
        "domain classifier": above_null(world, size, partial(domain_auc, world), FEW_NULLS),
    }


def ks_judge(baseline: Floats, columns: slice, window: Requests) -> bool:
    return bool(ks([window.features[:, columns]], baseline)[0])


def mahalanobis(world: TaskWorld) -> dict[str, Callable[[Requests], Floats]]:
    """Distances [R] to the predicted class's centroid (Lee et al. 2018), and those relative to the distance from all
    classes (Ren et al. 2021); centroids and covariances are of the training rows."""
    train = world.training
    classes = int(train.labels.max()) + 1
    centroids = np.stack([train.embedding[train.labels == c].mean(0) for c in range(classes)])
    within = LedoitWolf().fit(train.embedding - centroids[train.labels]).precision_
    center, overall = train.embedding.mean(0), LedoitWolf().fit(train.embedding).precision_

    def nearest(asked: Requests) -> Floats:
        return squared(asked.embedding - centroids[asked.classes], within)

    return {
        "Mahalanobis": nearest,
        "relative Mahalanobis": lambda asked: nearest(asked) - squared(asked.embedding - center, overall),
    }


def squared(rows: np.ndarray, precision: np.ndarray) -> Floats:
    found: Floats = np.einsum("rd,de,re->r", rows.astype(np.float64), precision, rows)
    return found


def mean_of(distance: Callable[[Requests], Floats]) -> Score:
    return lambda window: float(distance(window).mean())


def mmd(world: TaskWorld, window: Requests) -> float:
    """Squared maximum mean discrepancy from the baseline's embeddings (Gretton et al. 2012), kernel width by their
    median distance."""
    rng = np.random.default_rng(0)
    theirs = world.baseline.embedding[rng.permutation(len(world.baseline))[:KERNEL_ROWS]]
    mine = window.embedding[rng.permutation(len(window))[:KERNEL_ROWS]]
    gamma = 1 / np.median(np.square(theirs[:100, None] - theirs[None, :100]).sum(-1))
    own, other = rbf_kernel(mine, mine, gamma), rbf_kernel(theirs, theirs, gamma)
    return float(unlike_pairs(own) + unlike_pairs(other) - 2 * rbf_kernel(mine, theirs, gamma).mean())


def unlike_pairs(kernel: NDArray[np.float64]) -> float:
    """The mean of all pairs but each row with itself."""
    rows = len(kernel)
    return float((kernel.sum() - np.trace(kernel)) / (rows * (rows - 1)))


def domain_auc(world: TaskWorld, window: Requests) -> float:
    """How well a classifier tells the window's embeddings from the baseline's, by cross-validation."""
    theirs = world.baseline.embedding[np.random.default_rng(0).permutation(len(world.baseline))[:KERNEL_ROWS]]
    rows = np.concatenate([theirs, window.embedding[:KERNEL_ROWS]])
    mine = np.arange(len(rows)) >= len(theirs)
    model = LogisticRegression(C=0.01, class_weight="balanced", max_iter=200)
    return float(cross_val_score(model, rows, mine, cv=3, scoring="roc_auc").mean())


def above_null(world: TaskWorld, size: int, score: Score, nulls: int) -> TaskJudge:
    """Alarms where `score` is above what LEVEL of windows of the baseline's own requests exceed."""
    rng = np.random.default_rng(1)
    rows = len(world.baseline)
    null = [score(world.baseline[rng.integers(rows, size=size)]) for _ in range(nulls)]
    threshold = float(np.quantile(null, 1 - LEVEL))
    return lambda window: score(window) > threshold
