"""Fine-tuning takes its batches where the encoder is: to embed the texts, to train, to evaluate, to see its norms."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from model.data import Dataset
from model.finetuning.checkpoint import load_fine_tuned
from model.finetuning.movement import NORMS
from model.finetuning.run import fine_tune
from model.training.batches import Batch
from model.training.checkpoint import METRICS
from model.training.device import CPU, device_of
from model.training.recipe import FineTuning

Brief = Callable[..., FineTuning]
USERS = ("model.finetuning.head", "model.finetuning.movement", "model.training.trainer")


def test_every_batch_goes_to_the_device(
    letters: Dataset, encoder_directory: Path, brief: Brief, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, set[torch.device]] = {}

    def stand_in(user: str) -> Callable[[Batch, torch.device], Batch]:
        def to_device(batch: Batch, device: torch.device) -> Batch:
            asked.setdefault(user, set()).add(device)
            return batch

        return to_device

    for user in USERS:
        monkeypatch.setattr(sys.modules[user], "to_device", stand_in(user))
    fine_tune(letters, brief(epochs=1), encoder_directory, tmp_path / "run", device=CPU)
    assert asked == {user: {CPU} for user in USERS}


def test_products_in_bfloat16_learn_about_the_same(
    letters: Dataset, encoder_directory: Path, brief: Brief, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: dict[bool, list[float]] = {}
    for bfloat16 in (False, True):
        monkeypatch.setattr("model.training.trainer.has_bfloat16", lambda _, has=bfloat16: has)
        directory = tmp_path / str(bfloat16)
        fine_tune(letters, brief(), encoder_directory, directory)
        rows = (directory / METRICS).read_text().splitlines()
        found[bfloat16] = [json.loads(row)["train_loss"] for row in rows]
    assert found[True] != found[False] and found[True] == pytest.approx(found[False], rel=0.02)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_fine_tuning_on_cuda_is_as_good_and_its_run_is_read_on_the_cpu(
    letters: Dataset, encoder_directory: Path, brief: Brief, tmp_path: Path
) -> None:
    here = fine_tune(letters, brief(), encoder_directory, tmp_path / "here")
    there = fine_tune(letters, brief(), encoder_directory, tmp_path / "there", device=torch.device("cuda"))
    assert device_of(there.model).type == "cuda" and device_of(load_fine_tuned(tmp_path / "there").model) == CPU
    assert there.facts["validation_accuracy"] == pytest.approx(here.facts["validation_accuracy"], abs=0.05)
    assert (tmp_path / "there" / NORMS).exists()
