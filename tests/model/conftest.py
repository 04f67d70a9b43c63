import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from model.data import Dataset, load_dataset
from model.training.recipe import Recipe

WORDS = {
    "balance": "what is my account balance please show the money left",
    "weather": "will it rain today or is the sun out in the city",
    "alarm": "wake me up set an alarm for six in the morning",
}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def intents_csv(tmp_path: Path) -> Path:
    """Three classes of twenty short texts each."""
    path = tmp_path / "intents.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for label, sentence in WORDS.items():
            words = sentence.split()
            for i in range(20):
                writer.writerow([" ".join(words[i % 5 : i % 5 + 3 + i % 4]) + f" {i}", label])
    return path


@pytest.fixture
def intents(intents_csv: Path) -> Dataset:
    return load_dataset(str(intents_csv), intents_csv.parent)


@pytest.fixture
def tiny() -> Callable[..., Recipe]:
    """A recipe that trains in a blink; keyword arguments change it."""

    def make(**changes: object) -> Recipe:
        small = {"d_model": 16, "num_heads": 2, "num_layers": 1, "d_ff": 32, "epochs": 2, "batch_size": 8}
        small |= {"max_tokens": 12, "vocab_size": 320, "linear_teacher": False}
        return Recipe.model_validate(small | changes)

    return make
