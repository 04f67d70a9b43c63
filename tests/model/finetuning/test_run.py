"""A pretrained encoder goes on learning: from its own features, never below them, and again to the same weights."""

import json
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import model.finetuning.run as run_module
from model.data import Dataset, load_dataset
from model.finetuning.checkpoint import input_encoder, load_fine_tuned
from model.finetuning.head import Fitted, Vectors
from model.finetuning.movement import NORMS, PICTURE
from model.finetuning.run import fine_tune
from model.training.batches import evaluation_batches
from model.training.checkpoint import METRICS, MODEL, STATE, is_fine_tuned, load_run, load_tensors
from model.training.recipe import FineTuning
from model.training.report import Report
from model.training.trainer import Interrupted, Trainer, evaluate
from runtime.errors import DataError, ExportError
from tests.model.pretrained.networks import change, save_network

Brief = Callable[..., FineTuning]


def test_a_run_is_complete_without_the_directory_that_it_began_with(
    letters: Dataset, encoder_directory: Path, brief: Brief, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here it begins with a random head, so that there is much to learn."""

    def at_random(vectors: Vectors, dataset: Dataset) -> Fitted:
        return Fitted(nn.Linear(vectors.train.shape[1], len(dataset.labels)), loss=1.0, accuracy=0.0)

    monkeypatch.setattr("model.finetuning.run.fit_head", at_random)
    directory = tmp_path / "run"
    done = fine_tune(letters, brief(epochs=6, average_decay=0.5), encoder_directory, directory)
    assert done.facts["epoch"] > 0
    shutil.rmtree(encoder_directory)
    run = load_fine_tuned(directory)
    assert is_fine_tuned(directory)
    (batch,) = evaluation_batches(letters.validation, input_encoder(run.source), run.source.pooling)
    with torch.inference_mode():
        assert torch.equal(run.model(*batch.inputs).logits, done.model(*batch.inputs).logits)
    assert evaluate(run.model, letters.test, input_encoder(run.source))[1] > 0.9
    assert len((directory / METRICS).read_text().splitlines()) == 6
    assert (directory / PICTURE).read_bytes().startswith(b"\x89PNG")
    norms = json.loads((directory / NORMS).read_text())
    assert len(norms["norms"]) == 5 and norms["pretrained"] != norms["fine_tuned"]


def test_a_run_that_spoils_the_encoder_keeps_the_head_alone(
    letters: Dataset, encoder_directory: Path, brief: Brief, tmp_path: Path
) -> None:
    alone = fine_tune(letters, brief(head_only=True), encoder_directory, tmp_path / "alone")
    assert alone.facts["epoch"] == 0 and not (tmp_path / "alone" / STATE).exists()
    spoilt = fine_tune(letters, brief(learning_rate=10.0, average_decay=0.0), encoder_directory, tmp_path / "spoilt")
    assert spoilt.facts["validation_accuracy"] >= alone.facts["validation_accuracy"]


def test_training_that_diverges_is_told_and_leaves_the_head_alone(
    letters: Dataset, encoder_directory: Path, brief: Brief, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"is no number any more .*: pass a smaller --learning-rate \(it is 1e\+30\)"):
        fine_tune(letters, brief(learning_rate=1e30), encoder_directory, tmp_path / "run")
    assert load_fine_tuned(tmp_path / "run").facts["epoch"] == 0


def test_an_interrupted_run_resumes_to_the_same_weights(
    letters: Dataset, encoder_directory: Path, brief: Brief, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fine_tune(letters, brief(), encoder_directory, tmp_path / "straight")
    step, steps = Report.step, 0

    def interrupt(self: Report, *args: float) -> None:
        nonlocal steps
        step(self, *args)
        steps += 1
        if steps == 8:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Report, "step", interrupt)
        with pytest.raises(Interrupted):
            fine_tune(letters, brief(), encoder_directory, tmp_path / "halted")
    fine_tune(letters, brief(), encoder_directory, tmp_path / "halted")
    for name in (MODEL, STATE):
        left, right = (load_tensors(tmp_path / run / name)[0] for run in ("straight", "halted"))
        assert left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


def test_few_rows_have_more_epochs(letters: Dataset, encoder_directory: Path, brief: Brief, tmp_path: Path) -> None:
    fine_tune(letters, brief(epochs=1, least_steps=13), encoder_directory, tmp_path / "run")
    assert len((tmp_path / "run" / METRICS).read_text().splitlines()) == 3  # of 6 steps


@pytest.mark.parametrize("model_type", ["roberta", "distilbert", "modernbert", "albert"])
def test_any_family_learns(letters: Dataset, brief: Brief, tmp_path: Path, model_type: str) -> None:
    save_network(tmp_path / "pretrained", model_type)
    run = fine_tune(letters, brief(epochs=1, pooling="cls"), tmp_path / "pretrained", tmp_path / "run")
    assert run.source.pooling == "cls"
    assert run.facts["validation_accuracy"] > 0.5


def test_a_pooling_that_nobody_names_is_the_better_one_by_validation(
    letters: Dataset, brief: Brief, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_network(tmp_path / "pretrained", "bert")
    losses = {
        kind: fine_tune(letters, brief(head_only=True, pooling=kind), tmp_path / "pretrained", tmp_path / kind).facts
        for kind in ("mean", "cls")
    }
    better = min(losses, key=lambda kind: losses[kind]["validation_loss"])
    run = fine_tune(letters, brief(head_only=True), tmp_path / "pretrained", tmp_path / "run")
    assert run.source.pooling == run.info.pretrained.pooling == better
    assert run.facts["validation_loss"] == pytest.approx(losses[better]["validation_loss"], abs=1e-4)
    assert f"pooling {better}, by the validation loss" in capsys.readouterr().out
    monkeypatch.setattr(run_module, "MEASURED", ("max",))  # what was chosen stays
    assert fine_tune(letters, brief(head_only=True), tmp_path / "pretrained", tmp_path / "run").source.pooling == better


def test_nothing_is_measured_for_a_directory_that_holds_something_else(
    letters: Dataset, brief: Brief, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_network(tmp_path / "pretrained", "bert")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    monkeypatch.setattr(run_module, "embed_all", lambda *_: pytest.fail("embedded first"))
    with pytest.raises(DataError, match="is not empty and holds no run"):
        fine_tune(letters, brief(), tmp_path / "pretrained", tmp_path / "run")


def test_another_recipe_or_encoder_is_another_run(
    letters: Dataset, encoder_directory: Path, brief: Brief, tmp_path: Path
) -> None:
    fine_tune(letters, brief(head_only=True), encoder_directory, tmp_path / "run")
    with pytest.raises(DataError, match="holds a run with other choices"):
        fine_tune(letters, brief(), encoder_directory, tmp_path / "run")
    with pytest.raises(DataError, match="train it again"):
        load_run(tmp_path / "run")
    change(encoder_directory, layer_norm_eps=1e-3)
    with pytest.raises(DataError, match="holds a run with other choices"):
        fine_tune(letters, brief(head_only=True), encoder_directory, tmp_path / "run")


def break_tokenizer(directory: Path) -> None:
    (directory / "tokenizer.json").unlink()


def break_weights(directory: Path) -> None:
    change(directory, hidden_size=16)


def make_classifier(directory: Path) -> None:
    shutil.rmtree(directory)
    save_network(directory, "bert", classes=3)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [(break_tokenizer, "has no tokenizer.json"), (break_weights, "do not fit"), (make_classifier, "another task")],
)
def test_a_directory_that_cannot_be_used_is_refused_and_nothing_written(
    letters: Dataset, encoder_directory: Path, brief: Brief, tmp_path: Path, spoil: Callable[[Path], Any], message: str
) -> None:
    spoil(encoder_directory)
    with pytest.raises(ExportError, match=message):
        fine_tune(letters, brief(), encoder_directory, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_a_text_without_tokens_is_quoted_and_nothing_written(
    part: str, letters: Dataset, brief: Brief, tmp_path: Path
) -> None:
    save_network(tmp_path / "pretrained", "bert")
    file = tmp_path / "pretrained" / "tokenizer.json"
    settings = json.loads(file.read_text())
    settings["post_processor"] = None  # a tokenizer without special tokens, which drops what has no width
    settings["normalizer"] = {"type": "Replace", "pattern": {"String": "\u200b"}, "content": ""}
    file.write_text(json.dumps(settings))
    split = getattr(letters, part)
    spoilt = replace(letters, **{part: replace(split, inputs=[*split.inputs[:-1], "\u200b"])})
    with pytest.raises(DataError, match=r"letters has a text .*'\\u200b': write at least one word"):
        fine_tune(spoilt, brief(), tmp_path / "pretrained", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_floats_are_refused(encoder_directory: Path, brief: Brief, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="leave --from out"):
        fine_tune(load_dataset("digits", tmp_path), brief(), encoder_directory, tmp_path / "run")


@pytest.mark.parametrize("worse", [False, True])
def test_weights_halfway_are_kept_where_rows_are_few_unless_they_are_worse(
    worse: bool,
    letters: Dataset,
    encoder_directory: Path,
    brief: Brief,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: dict[str, Any] = {}

    def watch(trainer: Trainer, before: dict[str, torch.Tensor]) -> None:
        after = {name: value.clone() for name, value in trainer.average.module.state_dict().items()}
        seen.update(before=before, after=after)
        trainer.best = (1.0 if worse else 0.0, 0.0)
        monkeypatch.setattr("model.finetuning.run.evaluate", lambda *_: (1.0, 0.5))
        halfway(trainer, before)

    halfway = run_module.keep_halfway
    monkeypatch.setattr(run_module, "keep_halfway", watch)
    done = fine_tune(letters, brief(), encoder_directory, tmp_path / "run").model.state_dict()
    name = "network.head.weight"
    middle = (seen["before"][name] + seen["after"][name]) / 2
    assert torch.equal(done[name], middle) is not worse
