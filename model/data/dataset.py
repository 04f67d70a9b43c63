"""What every data set becomes before training: three labelled splits."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import DataError

Inputs = list[str] | list[NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Split:
    """Labelled examples.

    Attributes:
        inputs: texts, or float sequences [tokens, features].
        labels: class index per example, int64 [examples].
    """

    inputs: Inputs
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass(frozen=True, slots=True)
class Dataset:
    """A classification data set.

    Attributes:
        labels: class names, in the order of the indices.
        source: where the data come from and under which licence, for the artifact's manifest.
        official_test: whether the test examples are those by which others are compared: they stay out of baselines.
    """

    name: str
    source: str
    labels: list[str]
    train: Split
    validation: Split
    test: Split
    official_test: bool = False

    @property
    def held_out(self) -> Split:
        """What is not learned from, and tells what ordinary requests look like: twice the validation examples' say."""
        if self.official_test or not len(self.test):
            return self.validation
        inputs: Any = [*self.validation.inputs, *self.test.inputs]
        return Split(inputs, np.concatenate([self.validation.labels, self.test.labels]))

    @property
    def sha256(self) -> str:
        """Digest of every input and label, split by split."""
        digest = hashlib.sha256()
        for split in (self.train, self.validation, self.test):
            for value in split.inputs:
                digest.update(value.encode() + b"\0" if isinstance(value, str) else value.tobytes())
            digest.update(split.labels.tobytes())
        return digest.hexdigest()

    @property
    def is_text(self) -> bool:
        return isinstance(self.train.inputs[0], str)


def split_rows(name: str, source: str, inputs: Inputs, labels: Sequence[str], seed: int = 0) -> Dataset:
    """Splits rows into 80 % training, 10 % validation and 10 % test, class by class, by a seeded shuffle.

    A class of two to four rows gives its rows to training first, then to validation.

    Raises:
        DataError: there are fewer than two classes, or a class has a single row.
    """
    counts = Counter(labels)
    if len(counts) < 2:
        raise DataError(f"{name} has {len(counts)} class, expected at least 2: check the label column.")
    if lonely := sorted(label for label, count in counts.items() if count < 2):
        raise DataError(
            f"{name} has a class with a single row, {lonely[0]!r}: give every class at least 2 rows, or remove it."
        )
    names = sorted(counts)
    index = np.array([names.index(label) for label in labels], dtype=np.int64)
    rng = np.random.default_rng(seed)
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    for label in range(len(names)):
        rows = rng.permutation(np.flatnonzero(index == label)).tolist()
        held_out = max(1, round(0.1 * len(rows)))
        test = held_out if len(rows) >= 5 else 0
        parts[2].extend(rows[:test])
        parts[1].extend(rows[test : test + held_out])
        parts[0].extend(rows[test + held_out :])
    train, validation, test_split = (Split([inputs[row] for row in part], index[part]) for part in parts)  # type: ignore[arg-type]
    return Dataset(name, source, names, train, validation, test_split)
