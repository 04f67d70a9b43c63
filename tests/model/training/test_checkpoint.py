"""What a run directory says of itself, and what is told where it cannot be written."""

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

import model.training.checkpoint as checkpoint
from model.finetuning import movement
from model.training.checkpoint import MODEL, RECIPE, is_fine_tuned, save_tensors
from model.training.norm_record import draw_record
from model.training.report import Report, draw_curves
from runtime.console import PlainConsole
from runtime.errors import DataError

FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("content", "tuned"),
    [
        ({"pretrained": {}}, True),
        ({"labels": ["pretrained", "other"], "text_column": "pretrained"}, False),
        (["pretrained"], False),
    ],
)
def test_only_an_entry_of_its_own_says_that_a_run_is_fine_tuned(content: Any, tuned: bool, tmp_path: Path) -> None:
    (tmp_path / RECIPE).write_text(json.dumps(content))
    assert is_fine_tuned(tmp_path) is tuned


def test_a_spoiled_recipe_is_of_no_fine_tuned_run(tmp_path: Path) -> None:
    assert not is_fine_tuned(tmp_path)
    (tmp_path / RECIPE).write_bytes(b'{"pretrained": \xff')
    assert not is_fine_tuned(tmp_path)


@pytest.mark.parametrize("error", [FULL, SafetensorError("I/O error: No space left on device (os error 28)")])
def test_weights_that_cannot_be_written_are_told_and_the_old_ones_stay(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / MODEL
    save_tensors(path, {"weight": torch.ones(2)}, {})
    before = path.read_bytes()

    def fail(_: Any, file: Path, **__: Any) -> None:
        file.write_bytes(b"half")
        raise error

    monkeypatch.setattr(checkpoint, "save_file", fail)
    with pytest.raises(DataError, match=r"model.safetensors cannot be written \(.*No space left on device"):
        save_tensors(path, {"weight": torch.zeros(2)}, {})
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


ROW = {"epoch": 1, "train_loss": 1.0, "train_accuracy": 0.5, "validation_loss": 1.0, "validation_accuracy": 0.5}
NORM = {"norms": ["a"], "step": 0} | {key: [1.0] for key in ("mean", "variance", "gradient", "update")}


@pytest.mark.parametrize(
    "write",
    [
        lambda path: Report(path, "run", PlainConsole()).write_metrics(),
        lambda path: draw_curves([ROW], "run", path / "curves.png"),
        lambda path: draw_record([NORM, NORM | {"step": 1}], path / "norm_record.png"),
        lambda path: movement.draw([movement.Movement("a", 0.0, 1.0)], path),
    ],
)
def test_metrics_and_pictures_that_cannot_be_written_are_told(write: Callable[[Path], None], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone/\w+\.(png|jsonl) cannot be written \(No such file or directory\)"):
        write(tmp_path / "gone")
