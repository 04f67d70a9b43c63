"""From logits to probabilities."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def softmax(scores: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Class probabilities [R, C] in float64, of logits or of unnormalized log-probabilities."""
    exponents: NDArray[np.float64] = np.exp(scores.astype(np.float64) - scores.max(1, keepdims=True))
    exponents /= exponents.sum(1, keepdims=True)
    return exponents


def best_classes(logits: NDArray[np.float32]) -> tuple[list[int], list[float], list[float]]:
    """The most probable class of every row of `logits` [R, C], its probability, and its logit.

    A row that overflows has a probability of NaN.
    """
    top = logits.max(1)
    with np.errstate(invalid="ignore"):
        sums = np.exp(logits.astype(np.float64) - top[:, None]).sum(1)  # the best one's part is 1
    return logits.argmax(1).tolist(), (1 / sums).tolist(), top.tolist()
