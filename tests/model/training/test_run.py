"""What a run says of its data at the start, and of its linear teacher at its end."""

from pathlib import Path

import numpy as np
import pytest
from torch import nn

from model.data.dataset import Dataset, Split
from model.training.device import CPU
from model.training.recipe import SMALL
from model.training.run import begun, beside_teacher
from model.training.teachers import LinearTeacher

TEXTS = [f"{word} {ending}" for word in ("cancel", "refund") for ending in "abcdefghij"]
SPLIT = Split(TEXTS, np.repeat([0, 1], 10))
TEACHER = LinearTeacher(TEXTS, SPLIT.labels, seed=0)


def test_an_encoder_below_its_teacher_is_told_with_what_helps() -> None:
    first, second = beside_teacher(0.9, [TEACHER], SPLIT, SMALL)
    assert first == "its linear teacher: 1.0000, on the same 20 rows"
    assert second.startswith("the encoder is 10.0 points below its teacher: ") and "--from" in second


def test_few_rows_are_told_even_where_nothing_is_seen() -> None:
    assert "480 training rows are few" in beside_teacher(1.0, [TEACHER], SPLIT, 480)[1]
    assert len(beside_teacher(1.0, [TEACHER], SPLIT, SMALL)) == 1


def test_without_a_linear_teacher_nothing_is_said() -> None:
    assert beside_teacher(0.1, [], SPLIT, 10) == []


@pytest.mark.parametrize(
    ("labels", "told"),
    [(["no", "yes"], "2 classes (no, yes), "), (["a", "b", "c" * 50, "d"], f"4 classes (a, b, {'c' * 30}..., ...), ")],
)
def test_the_first_line_names_classes(labels: list[str], told: str) -> None:
    """A column that is not theirs shows by them."""
    line = begun(Path("run"), nn.Linear(2, 3), Dataset("set", "me", labels, SPLIT, SPLIT, SPLIT), CPU)
    assert line == f"run: 9 parameters, {told}20 training examples, on the CPU"
