from collections.abc import Callable
from pathlib import Path

import pytest

from model.data import Dataset
from model.data.dataset import split_rows
from model.training.recipe import FineTuning
from tests.model.pretrained.networks import save_modules, save_network

LETTERS = {"one": "abcd", "two": "efgh", "three": "ijkl"}


@pytest.fixture
def letters() -> Dataset:
    """Three classes of texts, told by the letters that are in them."""
    rows = [
        (f"{own[i % 4]}{' m' * (i % 3)} {own[i // 4 % 4]}", name) for name, own in LETTERS.items() for i in range(40)
    ]
    return split_rows("letters", "made up", [text for text, _ in rows], [name for _, name in rows])


@pytest.fixture
def encoder_directory(tmp_path: Path) -> Path:
    """A random encoder as sentence-transformers saves it."""
    directory = tmp_path / "pretrained"
    save_network(directory, "bert")
    save_modules(directory, "Transformer", "Pooling", pooling_mode_mean_tokens=True)
    return directory


@pytest.fixture
def brief() -> Callable[..., FineTuning]:
    def make(**changes: object) -> FineTuning:
        return FineTuning.model_validate({"epochs": 2, "batch_size": 16, "learning_rate": 1e-3} | changes)

    return make
