"""What goes wrong while an encoder is trained is told in one sentence, and spoils no run."""

import json
import math
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from addnorm.cli import main
from model.data import Dataset
from model.training.checkpoint import METRICS, MODEL, RECIPE, STATE, TOKENIZER, load_run, load_tensors, save_tensors
from model.training.recipe import FineTuning, Recipe
from model.training.report import DRAWN, Report, Sums, draw_curves, read_rows
from model.training.run import train
from model.training.trainer import Interrupted, Trainer
from runtime.errors import DataError
from tests.model.training.steps import losses
from tests.model.training.test_checkpoint import FULL

MakeRecipe = Callable[..., Recipe]
DIVERGED = r"The loss is no number any more at step \d+: pass a smaller --learning-rate \(it is 1e\+30\), and another"


def test_training_that_diverges_is_told_and_keeps_no_spoilt_weights(
    intents: Dataset, tiny: MakeRecipe, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=DIVERGED):
        train(intents, tiny(learning_rate=1e30), tmp_path / "run")
    assert (tmp_path / "run" / METRICS).read_text() == ""
    assert not (tmp_path / "run" / MODEL).exists() and not (tmp_path / "run" / STATE).exists()


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_weights_whose_validation_loss_is_no_number_are_not_kept(
    make_trainer: Callable[..., Trainer], loss: float
) -> None:
    trainer = make_trainer("run")
    with pytest.raises(DataError, match="The validation loss is no number any more after epoch 1: pass a smaller"):
        trainer.keep_best(0, loss, 1.0)
    assert not (trainer.directory / MODEL).exists()


def test_a_run_with_weights_that_are_no_numbers_is_refused(intents: Dataset, tiny: MakeRecipe, tmp_path: Path) -> None:
    """As runs had that diverged before that was told."""
    train(intents, tiny(epochs=1), tmp_path / "run")
    tensors, facts = load_tensors(tmp_path / "run" / MODEL)
    name = max(tensors)
    tensors[name].fill_(math.nan)
    save_tensors(tmp_path / "run" / MODEL, tensors, facts)
    with pytest.raises(DataError, match=f"model.safetensors has NaN or infinite numbers in {name}: train again"):
        load_run(tmp_path / "run")


@pytest.mark.parametrize("kind", [Recipe, FineTuning])
def test_no_choice_of_a_recipe_may_be_infinite(kind: type[Recipe | FineTuning]) -> None:
    for name, field in kind.model_fields.items():
        if field.annotation is float:
            with pytest.raises(ValueError, match=r"finite number|less than"):
                kind.model_validate({name: math.inf})


def test_an_infinite_rate_is_refused_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "missing.csv", "--out", str(tmp_path / "run"), "--learning-rate", "inf"]) == 2
    assert "learning_rate is not usable: input should be a finite number" in capsys.readouterr().err


@pytest.mark.parametrize("name", [RECIPE, TOKENIZER])
def test_a_full_disk_at_the_start_leaves_a_directory_that_can_be_trained_in(
    name: str, intents: Dataset, tiny: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, directory = Path.write_text, tmp_path / "run"

    def fill(path: Path, content: str, encoding: str | None = None) -> int:
        if path.stem == Path(name).stem:
            write(path, content[:9])
            raise FULL
        return write(path, content, encoding=encoding)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", fill)
        with pytest.raises(DataError, match=f"{name} cannot be written .No space left on device"):
            train(intents, tiny(epochs=1), directory)
    assert list(directory.iterdir()) == []
    train(intents, tiny(epochs=1), directory)


@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_a_recipe_that_cannot_be_read_is_told_as_such(
    content: str, intents: Dataset, tiny: MakeRecipe, tmp_path: Path
) -> None:
    (tmp_path / RECIPE).write_text(content)
    with pytest.raises(DataError, match=r"recipe.json cannot be read \(.+\): give another --out, or remove"):
        train(intents, tiny(), tmp_path)


ROW = dict.fromkeys(DRAWN, 1)


@pytest.mark.parametrize("line", ["1", "[]", "null", "{}", json.dumps(ROW | {"step": "1"}), '{"step": NaN}'])
def test_lines_of_metrics_that_are_none_are_dropped(line: str, tmp_path: Path) -> None:
    (tmp_path / METRICS).write_text(f"{line}\n{json.dumps(ROW)}\n")
    assert read_rows(tmp_path / METRICS) == [ROW]


def test_curves_have_the_name_of_the_directory_as_it_is(tmp_path: Path) -> None:
    draw_curves([ROW], "$_$", tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_state_of_other_tensors_is_told_as_such(make_trainer: Callable[..., Trainer]) -> None:
    trainer = make_trainer("run")
    advice = ": remove it, then the same command begins anew"
    save_tensors(trainer.state_path, {"model.other": torch.ones(2)}, {"step": 1})
    with pytest.raises(DataError, match=f"state.safetensors does not belong to this run{advice}"):
        losses(trainer)
    save_file({"weight": torch.ones(2)}, trainer.state_path, metadata={"format": "pt"})
    with pytest.raises(DataError, match=rf"state.safetensors cannot be read \(.+\){advice}"):
        losses(trainer)


@pytest.mark.parametrize("part", ["model", "average", "optimizer"])
def test_a_state_for_which_memory_is_too_small_is_not_blamed(
    part: str, make_trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer("run")
    trainer.save(Sums())

    def refuse(_: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(getattr(trainer, part), "load_state_dict", refuse)
    with pytest.raises(torch.OutOfMemoryError):
        trainer.restore()


def test_a_state_that_the_system_does_not_let_read_is_not_to_be_removed(make_trainer: Callable[..., Trainer]) -> None:
    trainer = make_trainer("run")
    trainer.state_path.mkdir()
    advice = "see who may read it and whether its disk is whole, then run the same command again"
    with pytest.raises(DataError, match=rf"state.safetensors cannot be read \(Is a directory\): {advice}\.$"):
        trainer.restore()


@pytest.fixture
def deaf() -> Iterator[None]:
    """Without a handler of its own, SIGTERM does not end the tests."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    yield
    assert signal.signal(signal.SIGTERM, before) is signal.SIG_IGN


@pytest.mark.usefixtures("deaf")
def test_sigterm_saves_in_the_middle_of_an_epoch(
    intents: Dataset, tiny: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Report.step
    monkeypatch.setattr(Report, "step", lambda *args: (step(*args), signal.raise_signal(signal.SIGTERM)))
    with pytest.raises(Interrupted):
        train(intents, tiny(), tmp_path / "run")
    assert load_tensors(tmp_path / "run" / STATE)[1]["step"] == 1


@pytest.mark.usefixtures("deaf")
def test_sigterm_ends_the_command_as_an_interruption(
    intents_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also before there is a step."""
    monkeypatch.setattr("model.training.run.train", lambda *_, **__: signal.raise_signal(signal.SIGTERM))
    threads = f"--threads={torch.get_num_threads()}"
    assert main(["train", str(intents_csv), "--out", str(tmp_path / "run"), threads]) == 130
