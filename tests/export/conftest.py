from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

import export.reference
import export.timing
from model.data import load_dataset
from model.training.recipe import Recipe
from model.training.run import train

SMALL = {"d_model": 16, "num_heads": 2, "num_layers": 1, "d_ff": 32, "batch_size": 64, "dropout": 0.0, "max_tokens": 10}


@pytest.fixture(scope="module", autouse=True)
def few_rounds() -> Iterator[None]:
    """Calibration by few draws, timing by few rounds: these tests are about the artifact."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export.reference, "DRAWS", 200)
        patch.setattr(export.timing, "ROUNDS", 2)
        yield


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """The directory of a run on digits with this norm and placement, trained once."""
    root = tmp_path_factory.mktemp("runs")

    def run(norm: str, placement: str) -> Path:
        torch.set_num_threads(1)
        directory = root / f"{norm}-{placement}"
        recipe = Recipe.model_validate(
            SMALL | {"norm": norm, "placement": placement, "epochs": 4, "learning_rate": 1e-2}
        )
        train(load_dataset("digits", root), recipe, directory)
        return directory

    return run


@pytest.fixture(scope="session")
def run_directory(trained: Callable[[str, str], Path]) -> Path:
    return trained("layer_norm", "post")
