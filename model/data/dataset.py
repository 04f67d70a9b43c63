"""What every data set becomes before training: three labelled splits."""

import hashlib
import unicodedata
from collections import Counter, defaultdict
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

    Rows of equal texts stay together. A class of two to four rows gives its rows to training first, then to validation.

    Raises:
        DataError: there are fewer than two classes, a class has a single row, or no text can be held out.
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
    groups = group_rows(inputs)
    classes_of: dict[int, set[str]] = defaultdict(set)
    for group, its_class in zip(groups, labels, strict=True):
        classes_of[group].add(its_class)
    rng = np.random.default_rng(seed)
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    for label in range(len(names)):
        rows = rng.permutation(np.flatnonzero(index == label)).tolist()
        together: dict[int, list[int]] = defaultdict(list)
        for row in rows:
            together[groups[row]].append(row)
        # In the shuffled order of their first rows in the file, so that large groups come no sooner than small ones.
        # A text of several classes stays in training: no answer to it is right, and all its rows stay together.
        own = [together[row] for row in rows if row in together and len(classes_of[row]) == 1]
        test, validation = hold_out(own, len(rows))
        parts[2].extend(test)
        parts[1].extend(validation)
        held_out = {*test, *validation}
        parts[0].extend(row for row in rows if row not in held_out)
    if not parts[1]:
        raise DataError(f"{name} has one text in each class, or the same in all: give every class 2 texts of its own.")
    train, validation_split, test_split = (Split([inputs[row] for row in part], index[part]) for part in parts)  # type: ignore[arg-type]
    return Dataset(name, source, names, train, validation_split, test_split)


def group_rows(inputs: Inputs) -> list[int]:
    """For each row the first one with an equal text: but for case, spaces and forms of characters."""
    first: dict[str, int] = {}
    return [
        first.setdefault(" ".join(unicodedata.normalize("NFKC", value).casefold().split()), row)
        if isinstance(value, str)
        else row
        for row, value in enumerate(inputs)
    ]


def held_out_rows(rows: int) -> tuple[int, int]:
    """How many of a class's rows are for the test and for validation, where no text is repeated."""
    tenth = max(1, round(0.1 * rows))
    return tenth if rows >= 5 else 0, tenth


def hold_out(groups: list[list[int]], rows: int) -> tuple[list[int], list[int]]:
    """The test and the validation rows of a class of so many `rows`: whole groups, about as many rows as are wanted.

    A text with more rows than that stays in training and does not count, or few others would be left there.
    """
    most = held_out_rows(rows)[1]
    small = [group for group in groups if len(group) <= most]
    groups = small if len(small) > 2 else groups
    wanted_test, wanted = held_out_rows(sum(map(len, groups)))
    # at least one text each for training, then for validation, then for the test
    test, groups = take(groups, wanted_test) if wanted_test and len(groups) > 2 else ([], groups)
    return test, take(groups, wanted)[0] if len(groups) > 1 else []


def take(groups: list[list[int]], wanted: int) -> tuple[list[int], list[list[int]]]:
    """About as many rows as are wanted of the groups, one group at least, and the other groups.

    The last group may end beyond, by half of its rows.
    """
    taken: list[int] = []
    others: list[list[int]] = []
    for group in groups:
        if len(group) <= wanted and 2 * (wanted - len(taken)) >= len(group):
            taken.extend(group)
        else:
            others.append(group)
    if taken:
        return taken, others
    least = min(range(len(groups)), key=lambda place: len(groups[place]))
    return groups[least], [*groups[:least], *groups[least + 1 :]]
