import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

import export.reference
import export.timing
from export.exporter import export_run
from model.data import load_dataset
from model.training.recipe import Recipe
from model.training.run import train
from runtime.artifact import Artifact, read_artifact
from tests.helpers import once

SMALL = {"d_model": 16, "num_heads": 2, "num_layers": 1, "d_ff": 32, "batch_size": 64, "dropout": 0.0, "max_tokens": 10}


@pytest.fixture(scope="module", autouse=True)
def few_rounds() -> Iterator[None]:
    """Calibration by few draws, timing by few rounds: these tests are about the artifact."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export.reference, "DRAWS", 200)
        patch.setattr(export.timing, "ROUNDS", 2)
        yield


class Exported(NamedTuple):
    """A run, its artifact in float32, and the largest errors that were met."""

    run: Path
    artifact: Artifact
    errors: dict[str, float]


@pytest.fixture(scope="session")
def trained(shared_path: Path) -> Callable[[str, str], Path]:
    """The directory of a run on digits with this norm and placement, trained once."""

    def run(norm: str, placement: str) -> Path:
        changes = {"norm": norm, "placement": placement, "epochs": 4, "learning_rate": 1e-2}
        recipe, data = Recipe.model_validate(SMALL | changes), load_dataset("digits", shared_path)
        torch.set_num_threads(1)
        return once(shared_path / "runs" / f"{norm}-{placement}", lambda path: train(data, recipe, path))

    return run


@pytest.fixture(scope="session")
def exported_once(trained: Callable[[str, str], Path], shared_path: Path) -> Callable[[str, str], Exported]:
    """What a run on digits with this norm and placement gives, exported once."""
    models = shared_path / "models"

    def run(norm: str, placement: str) -> Exported:
        directory, name = trained(norm, placement), f"{norm}-{placement}"
        errors = models / f"{name}.json"

        def export(_: Path) -> None:
            errors.write_text(json.dumps(export_run(directory, models, name, "1", shared_path)[1]))

        return Exported(directory, read_artifact(once(models / name / "1", export)), json.loads(errors.read_text()))

    return run


@pytest.fixture(scope="session")
def run_directory(trained: Callable[[str, str], Path]) -> Path:
    return trained("layer_norm", "post")
