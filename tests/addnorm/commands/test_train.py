"""`addnorm train`: which options go with a pretrained encoder, and which without."""

import pytest
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
