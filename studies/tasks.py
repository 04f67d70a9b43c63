"""What the experiments learn: handwritten digits, as rows of numbers, as pictures and as sequences.

1,797 digits of 8 x 8 pixels come with scikit-learn (UCI, Alpaydin & Kaynak 1998). 1,200 train, 597 test; the division
is the same in every cell.
"""

# N examples

from functools import cache
from typing import Literal, NamedTuple

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor

CLASSES, TRAINING = 10, 1200
CHANCE = float(np.log(CLASSES))  # the loss of a guess, in nats
Shape = Literal["rows", "pictures", "sequences"]
SHAPES = {"rows": (64,), "pictures": (1, 8, 8), "sequences": (8, 8)}  # a sequence has a step for each row of pixels


class Split(NamedTuple):
    """Examples [N, ...], standardized by the training split's one mean and deviation, and their classes [N]."""

    inputs: Tensor
    targets: Tensor

    def take(self, count: int) -> "Split":
        return Split(self.inputs[:count], self.targets[:count])


@cache
@torch.inference_mode(False)  # whoever asks first: others train on them
def digits(shape: Shape = "rows") -> tuple[Split, Split]:
    """Training and test digits."""
    loaded = load_digits()
    order = np.random.default_rng(0).permutation(len(loaded.target))
    values, classes = loaded.data[order].astype(np.float32), loaded.target[order]
    values = (values - values[:TRAINING].mean()) / values[:TRAINING].std()
    inputs = torch.from_numpy(values).reshape(-1, *SHAPES[shape])
    targets = torch.from_numpy(classes)
    return Split(inputs[:TRAINING], targets[:TRAINING]), Split(inputs[TRAINING:], targets[TRAINING:])
