"""What the experiments learn: handwritten digits, as rows of numbers, as pictures and as sequences.

1,797 digits of 8 x 8 pixels come with scikit-learn (UCI, Alpaydin & Kaynak 1998). 1,200 train, 297 choose rates, 300
are reported on; the division is the same in every cell. Longer and larger data sets are in studies.recordings.
"""

# N examples

from functools import cache
from typing import Literal, NamedTuple

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from studies.claim import TUNING_SEEDS

CLASSES, TRAINING, VALIDATION = 10, 1200, 297
CHANCE = float(np.log(CLASSES))  # the loss of a guess, in nats
Shape = Literal["rows", "pictures", "sequences"]
SHAPES = {"rows": (64,), "pictures": (1, 8, 8), "sequences": (8, 8)}  # a sequence has a step for each row of pixels


class Split(NamedTuple):
    """Examples [N, ...], standardized by the training split's one mean and deviation, and their classes [N]."""

    inputs: Tensor
    targets: Tensor

    def take(self, count: int) -> "Split":
        return Split(self.inputs[:count], self.targets[:count])

    def random(self, count: int, seed: int) -> "Split":
        """`count` examples, other ones for each seed."""
        chosen = torch.randperm(len(self.targets), generator=torch.Generator().manual_seed(seed))[:count]
        return Split(self.inputs[chosen], self.targets[chosen])


class Task(NamedTuple):
    """What trains, what rates are chosen by, and what is reported on: three sets of examples."""

    training: Split
    validation: Split
    test: Split

    def of(self, seed: int) -> tuple[Split, Split]:
        """What a cell trains on, and what it is judged by: nothing is reported on examples that chose a rate."""
        return self.training, self.validation if seed in TUNING_SEEDS else self.test


def digits(shape: Shape = "rows", seed: int = 0) -> tuple[Split, Split]:
    """Training digits, and those that judge a cell with this seed."""
    return all_digits(shape).of(seed)


@cache
@torch.inference_mode(False)  # whoever asks first: others train on them
def all_digits(shape: Shape) -> Task:
    loaded = load_digits()
    order = np.random.default_rng(0).permutation(len(loaded.target))
    values, classes = loaded.data[order].astype(np.float32), loaded.target[order]
    values = (values - values[:TRAINING].mean()) / values[:TRAINING].std()
    parts = (TRAINING, TRAINING + VALIDATION)
    inputs = torch.from_numpy(values).reshape(-1, *SHAPES[shape]).tensor_split(parts)
    targets = torch.from_numpy(classes).tensor_split(parts)
    return Task(*map(Split, inputs, targets))
