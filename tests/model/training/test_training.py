import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from model.data import Dataset, load_dataset
from model.training.batches import count_batches
from model.training.checkpoint import CURVES, METRICS, MODEL, RECIPE, STATE, load_run, load_tensors
from model.training.recipe import Recipe
from model.training.report import Report
from model.training.run import train
from model.training.trainer import Interrupted
from runtime.errors import DataError

MakeRecipe = Callable[..., Recipe]
TIMES = ("seconds", "tokens_per_second")


def metrics(directory: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (directory / METRICS).read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in TIMES} for row in rows]


def assert_same_run(one: Path, other: Path) -> None:
    assert metrics(one) == metrics(other)
    for name in (MODEL, STATE):
        left, right = load_tensors(one / name)[0], load_tensors(other / name)[0]
        assert left.keys() == right.keys()
        assert all(torch.equal(left[key], right[key]) for key in left)


def test_train_learns_and_leaves_a_complete_run(intents: Dataset, tiny: MakeRecipe, tmp_path: Path) -> None:
    run = train(intents, tiny(epochs=30, learning_rate=1e-2, dropout=0.0), tmp_path / "run")
    rows = metrics(tmp_path / "run")
    assert len(rows) == 30 and rows[-1]["train_loss"] < 0.6 * rows[0]["train_loss"]
    assert run.facts["validation_accuracy"] == max(row["validation_accuracy"] for row in rows) >= 0.8
    assert (tmp_path / "run" / CURVES).read_bytes().startswith(b"\x89PNG")
    assert load_run(tmp_path / "run").info.recipe.epochs == 30


@pytest.mark.parametrize(
    ("norm", "stop"), [("layer_norm", 9), ("batch_norm", 9), ("layer_norm", 6), ("layer_norm", 13)]
)
def test_interrupted_run_resumes_to_the_same_losses_and_weights(
    intents: Dataset, tiny: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, norm: str, stop: int
) -> None:
    """Stops in the middle of an epoch of 6 steps, after its last step, and after its first."""
    recipe = tiny(norm=norm, epochs=3)
    train(intents, recipe, tmp_path / "straight")
    step, steps = Report.step, 0

    def interrupt_in_second_epoch(self: Report, *args: float) -> None:
        nonlocal steps
        step(self, *args)
        steps += 1
        if steps == stop:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Report, "step", interrupt_in_second_epoch)
    with pytest.raises(Interrupted):
        train(intents, recipe, tmp_path / "stopped")
    assert load_tensors(tmp_path / "stopped" / STATE)[1]["step"] == stop
    monkeypatch.undo()
    train(intents, recipe, tmp_path / "stopped")
    assert_same_run(tmp_path / "straight", tmp_path / "stopped")


def test_killed_run_resumes_to_the_same_losses_and_weights(intents_csv: Path, tmp_path: Path) -> None:
    options = ["--epochs=4", "--d-model=16", "--num-heads=2", "--num-layers=1", "--d-ff=32", "--threads=1"]
    command = [sys.executable, "-m", "addnorm", "train", str(intents_csv), *options]
    subprocess.run([*command, f"--out={tmp_path}/straight"], check=True, capture_output=True)
    killed = subprocess.Popen([*command, f"--out={tmp_path}/killed"], stdout=subprocess.PIPE, text=True)
    assert killed.stdout is not None
    for line in killed.stdout:
        if "epoch 2" in line:
            killed.kill()
            break
    assert killed.wait() == -signal.SIGKILL
    killed.stdout.close()
    subprocess.run([*command, f"--out={tmp_path}/killed"], check=True, capture_output=True)
    assert_same_run(tmp_path / "straight", tmp_path / "killed")


def test_finished_run_is_not_trained_again(intents: Dataset, tiny: MakeRecipe, tmp_path: Path) -> None:
    train(intents, tiny(), tmp_path / "run")
    before = metrics(tmp_path / "run")
    train(intents, tiny(), tmp_path / "run")
    assert metrics(tmp_path / "run") == before


def test_a_run_that_began_before_few_texts_had_defaults_of_their_own_goes_on_as_it_began(
    intents: Dataset, tiny: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Recipe, "for_rows", lambda self, _: self)
        train(intents, tiny(epochs=1, linear_teacher=True), tmp_path / "old")
    train(intents, tiny(epochs=1, linear_teacher=True), tmp_path / "new")
    for name, weight in (("old", 0.7), ("new", 1.0)):
        assert train(intents, tiny(epochs=1, linear_teacher=True), tmp_path / name).info.recipe.teacher_weight == weight


def test_other_choices_in_the_same_directory_are_refused(intents: Dataset, tiny: MakeRecipe, tmp_path: Path) -> None:
    train(intents, tiny(), tmp_path / "run")
    before = (tmp_path / "run" / MODEL).read_bytes()
    with pytest.raises(DataError, match="other choices"):
        train(intents, tiny(epochs=3), tmp_path / "run")
    assert (tmp_path / "run" / MODEL).read_bytes() == before


def test_directory_with_other_files_is_refused(intents: Dataset, tiny: MakeRecipe, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="not empty"):
        train(intents, tiny(), tmp_path)


def test_unreadable_runs_are_refused(intents: Dataset, tiny: MakeRecipe, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(DataError, match=r"recipe.json cannot be read"):
        load_run(run)
    train(intents, tiny(), run)
    content = (run / MODEL).read_bytes()
    (run / MODEL).write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"model.safetensors cannot be read"):
        load_run(run)
    (run / RECIPE).write_text("{}")
    with pytest.raises(DataError, match=r"recipe.json is not a run"):
        load_run(run)


def test_seed_decides_everything(intents: Dataset, tiny: MakeRecipe, tmp_path: Path) -> None:
    def weights(name: str, seed: int) -> dict[str, Tensor]:
        train(intents, tiny(seed=seed), tmp_path / name)
        return load_tensors(tmp_path / name / MODEL)[0]

    one, again, other = weights("one", 0), weights("again", 0), weights("other", 1)
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)


def test_student_learns_from_teachers_of_another_vocabulary(intents: Dataset, tiny: MakeRecipe, tmp_path: Path) -> None:
    strong = {"epochs": 30, "learning_rate": 1e-2, "dropout": 0.0, "variants": 2}
    train(intents, tiny(**strong), tmp_path / "teacher")
    train(intents, tiny(**strong, vocab_size=300), tmp_path / "other")
    teachers = [tmp_path / "teacher", tmp_path / "other"]
    student = train(intents, tiny(**strong, seed=3), tmp_path / "student", teachers=teachers)
    assert student.facts["validation_accuracy"] >= 0.8
    assert student.info.teachers == [str(path) for path in teachers]


def test_teacher_of_other_classes_is_refused(intents: Dataset, tiny: MakeRecipe, tmp_path: Path) -> None:
    digits = load_dataset("digits", tmp_path)
    train(digits, tiny(epochs=1, batch_size=64), tmp_path / "digits")
    with pytest.raises(DataError, match="cannot teach"):
        train(intents, tiny(), tmp_path / "run", teachers=[tmp_path / "digits"])


def test_interrupt_at_the_very_end_leaves_a_finished_run(
    intents: Dataset, tiny: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Report.step
    monkeypatch.setattr(Report, "step", lambda *args: (step(*args), signal.raise_signal(signal.SIGINT)))
    run = train(intents, tiny(epochs=1, batch_size=100), tmp_path / "run")
    assert len(metrics(tmp_path / "run")) == run.facts["epoch"] == 1


def test_changed_data_are_noticed(intents_csv: Path, tiny: MakeRecipe, tmp_path: Path) -> None:
    train(load_dataset(str(intents_csv), tmp_path), tiny(epochs=1), tmp_path / "run")
    with intents_csv.open("a") as file:
        file.write("one more text,alarm\n")
    with pytest.raises(DataError, match="other choices or data"):
        train(load_dataset(str(intents_csv), tmp_path), tiny(epochs=1), tmp_path / "run")


def test_spoiled_metrics_do_not_stop_a_resume(intents: Dataset, tiny: MakeRecipe, tmp_path: Path) -> None:
    train(intents, tiny(epochs=1), tmp_path / "run")
    (tmp_path / "run" / METRICS).write_text('{"epoch": 1, "st')
    train(intents, tiny(epochs=1), tmp_path / "run")


def test_file_in_the_place_of_a_run_is_refused(intents: Dataset, tiny: MakeRecipe, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    with pytest.raises(DataError, match="cannot be written"):
        train(intents, tiny(), tmp_path / "run")
    assert (tmp_path / "run").read_text() == "mine"


def test_single_example_left_over_joins_the_last_batch() -> None:
    assert [count_batches(size, 8) for size in (1, 8, 9, 10, 16, 17, 18)] == [1, 1, 1, 2, 2, 2, 3]
