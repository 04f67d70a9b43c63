"""From scores to probabilities."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def softmax(scores: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Class probabilities [R, C] in float64, of logits or of unnormalized log-probabilities."""
    exponents: NDArray[np.float64] = np.exp(scores.astype(np.float64) - scores.max(1, keepdims=True))
    exponents /= exponents.sum(1, keepdims=True)
    return exponents
