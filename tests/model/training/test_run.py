"""What a run says of its linear teacher at its end."""

import numpy as np

from model.data.dataset import Split
from model.training.recipe import SMALL
from model.training.run import beside_teacher
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
