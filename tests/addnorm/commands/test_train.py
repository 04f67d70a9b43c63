"""`addnorm train`: which options go with a pretrained encoder, and which without; where it trains."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic_settings import CliApp

from addnorm.cli import main
from addnorm.commands.train import Train
from model.training.recipe import FineTuning, Recipe


def choices(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> Recipe | FineTuning:
    found: list[Recipe | FineTuning] = []
    monkeypatch.setattr(Train, "cli_cmd", lambda self: found.append(self.choices()))
    CliApp.run(Train, cli_args=["mine.csv", "--out", "runs/x", *arguments])
    return found[0]


def test_defaults_are_those_of_the_kind_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choices("--epochs", "3", monkeypatch=monkeypatch) == Recipe(epochs=3)
    assert choices("--from", "minilm", "--epochs", "3", monkeypatch=monkeypatch) == FineTuning(epochs=3)
    assert choices("--from", "minilm", "--head-only", monkeypatch=monkeypatch) == FineTuning(head_only=True)


def test_a_pretrained_encoder_may_read_more_tokens(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "digits", "--out", "runs/x", "--max-tokens", "8192"]) == 2
    assert "max_tokens is not usable: input should be less than or equal to 512" in capsys.readouterr().err
    found = choices("--from", "modernbert", "--max-tokens", "8192", monkeypatch=monkeypatch)
    assert found == FineTuning(max_tokens=8192)


def test_the_document_has_the_defaults_of_fine_tuning() -> None:
    document = (Path(__file__).parents[3] / "docs" / "training.md").read_text()
    words = {"pooling": "as the directory says", "head_only": "off"}
    for name, field in FineTuning.model_fields.items():
        if name not in Recipe.model_fields or field.default != Recipe.model_fields[name].default:
            default = words.get(name) or np.format_float_positional(field.default, trim="-")
            assert f"| `--{name.replace('_', '-')}` | {default}" in document


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from", "minilm", "--d-model", "64"], "--d-model is for encoders that are trained from scratch"),
        (["--from", "minilm", "--teachers", "runs/x"], "--teachers is for encoders that are trained from scratch"),
        (["--head-only"], "--head-only is for pretrained encoders"),
    ],
)
def test_options_of_the_other_kind_are_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "digits", "--out", "runs/x", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_the_device_is_no_part_of_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """So a run may go on with another."""
    assert choices("--device", "cpu", "--epochs", "3", monkeypatch=monkeypatch) == Recipe(epochs=3)


@pytest.mark.parametrize("arguments", [[], ["--from", "minilm"]])
def test_cuda_is_refused_without_a_gpu_before_data_are_read(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    out = tmp_path / "run"
    assert main(["train", "missing.csv", "--out", str(out), "--device", "cuda", *arguments]) == 2
    told = capsys.readouterr().err
    assert told.startswith("addnorm: --device cuda: torch") and told.endswith(" or pass --device cpu.\n")
    assert not out.exists()


def test_tensorrt_only_serves(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "digits", "--out", "runs/x", "--device", "tensorrt"]) == 2
    assert "device is not usable: input should be 'auto', 'cpu' or 'cuda'" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "expected"), [((), 1), (("--threads", "2"), 2)])
def test_threads_are_those_that_may_be_used(
    arguments: tuple[str, ...], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[int] = []
    monkeypatch.setattr("model.training.device.usable_cpus", lambda: 1)
    monkeypatch.setattr(torch, "set_num_threads", found.append)
    monkeypatch.setattr("model.training.run.train", lambda *_, **__: None)
    assert main(["train", "digits", "--out", str(tmp_path / "run"), *arguments]) == 0
    assert found == [expected]


@pytest.mark.parametrize(("variable", "expected"), [("cpu", "cpu"), ("auto", "cuda"), ("", "cuda")])
def test_the_device_that_is_found_is_trained_on(
    variable: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """auto is the default, and ADDNORM_DEVICE is read as by every command."""
    found: list[torch.device] = []
    monkeypatch.setenv("ADDNORM_DEVICE", variable)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("model.training.run.train", lambda *_, device, **__: found.append(device))
    threads = f"--threads={torch.get_num_threads()}"
    assert main(["train", "digits", "--out", str(tmp_path / "run"), threads]) == 0
    assert found == [torch.device(expected)]
