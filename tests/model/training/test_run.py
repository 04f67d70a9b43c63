"""What a run says of its data at the start, and of its linear teacher at its end."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from torch import nn

from model.data.dataset import Dataset, Split
from model.training.device import CPU
from model.training.recipe import SMALL, Recipe
from model.training.run import begun, beside_teacher, few_steps, train
from model.training.teachers import LinearTeacher
from runtime.console import PlainConsole

TEXTS = [f"{word} {ending}" for word in ("cancel", "refund") for ending in "abcdefghij"]
SPLIT = Split(TEXTS, np.repeat([0, 1], 10))
TEACHER = LinearTeacher(TEXTS, SPLIT.labels, seed=0)


def test_an_encoder_below_its_teacher_is_told_with_what_helps() -> None:
    first, second = beside_teacher(0.9, [TEACHER], SPLIT, SMALL)
    assert first == "its linear teacher: 1.0000, on the same 20 rows"
    assert second.startswith("the encoder is 10.0 points below its teacher: ") and "--from" in second


def test_a_short_run_is_told_to_be_longer_first() -> None:
    few = few_steps(Recipe(epochs=5), 30)
    assert few == "it had only 30 steps: train without --epochs first"
    assert few_steps(Recipe(least_steps=100), 100).endswith("without --least-steps first")
    assert few_steps(Recipe(epochs=20), 3000) == ""
    assert beside_teacher(0.6, [TEACHER], SPLIT, 480, few)[1] == f"the encoder is 40.0 points below its teacher: {few}"


@pytest.mark.parametrize("tested", [True, False])
def test_the_test_split_is_told_where_there_is_one(tested: bool, tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    test = SPLIT if tested else Split([], np.zeros(0, dtype=np.int64))
    dataset = Dataset("set", "me", ["no", "yes"], SPLIT, SPLIT, test)
    brief = Recipe(epochs=1, d_model=16, num_heads=2, num_layers=1, d_ff=16, linear_teacher=False, vocab_size=300)
    train(dataset, brief, tmp_path / "run", console=console)
    (line,) = [line for line in console.file.getvalue().splitlines() if "best validation accuracy" in line]
    assert line.count("validation") == 1 and (", test " in line) == tested


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


def test_classes_and_directories_are_told_as_they_are_called(
    intents: Dataset, tiny: Callable[..., Recipe], tmp_path: Path
) -> None:
    """Also where what they are called is markup."""
    console = PlainConsole(file=io.StringIO(), force_terminal=True, width=200)
    named = replace(intents, labels=["[/a]", "[red]", ":heart:"])
    train(named, tiny(epochs=1, batch_size=100), tmp_path / "run[" / "b][red]", console=console)
    told = console.file.getvalue()
    assert "3 classes ([/a], [red], :heart:)" in told and "run[/b][red]: best validation accuracy" in told
    assert told.count("b][red] epoch 1: loss") == 1
