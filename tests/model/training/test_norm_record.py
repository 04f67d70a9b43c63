"""What is recorded of norms during training: the same statistics as of traffic, and the run is not changed by it."""

import json
import math
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from model.data import Dataset
from model.network.norms import NormStatistics
from model.training.batches import Batch
from model.training.checkpoint import MODEL, load_tensors
from model.training.norm_record import PICTURE, RECORD, length, read_record, seen
from model.training.recipe import Recipe
from model.training.report import Report
from model.training.run import train
from model.training.trainer import Interrupted

MakeRecipe = Callable[..., Recipe]
EPS = 1e-5


def test_means_and_variances_are_those_of_the_valid_tokens() -> None:
    x_PSD = torch.from_numpy(np.random.default_rng(0).normal(2, 3, (2, 4, 16)))
    segments = torch.tensor([[1, 1, 1, 0], [1, 2, 0, 0]])
    statistics = NormStatistics(x_PSD.mean(-1, True), 1 / torch.sqrt(x_PSD.var(-1, correction=0, keepdim=True) + EPS))
    batch = Batch((x_PSD, segments, segments, segments), segments, 5)
    means, variances = seen([statistics, statistics], batch, np.array([EPS, EPS]))
    valid = x_PSD[segments > 0].numpy()
    assert means == pytest.approx([valid.mean()] * 2, rel=1e-12)
    assert variances == pytest.approx([valid.var(1).mean()] * 2, rel=1e-12)


def test_the_length_is_that_of_all_values_together() -> None:
    assert length([torch.tensor([3.0, 0.0]), torch.tensor([[4.0]])]) == 5


@pytest.mark.parametrize("options", [{}, {"placement": "pre", "norm": "rms_norm"}, {"norm": "batch_norm"}])
def test_a_run_records_every_norm_and_learns_the_same(
    intents: Dataset, tiny: MakeRecipe, tmp_path: Path, options: dict[str, str]
) -> None:
    recipe = tiny(epochs=2, **options)
    run = train(intents, recipe, tmp_path / "recorded", record_norms=True)
    train(intents, recipe, tmp_path / "plain")
    recorded, plain = (load_tensors(tmp_path / name / MODEL)[0] for name in ("recorded", "plain"))
    assert all(torch.equal(recorded[name], plain[name]) for name in plain)
    rows = read_record(tmp_path / "recorded" / RECORD)
    assert [row["step"] for row in rows] == list(range(12))
    assert rows[0]["norms"] == [name for name, _ in run.model.norms()]
    for row in rows:
        assert all(math.isfinite(value) for name in ("mean", "variance") for value in row[name])
        assert min(row["gradient"]) > 0 and len(row["update"]) == len(row["norms"])
    assert max(rows[0]["update"]) == 0 < min(rows[6]["update"]) < max(rows[6]["update"]) < 1  # warm-up begins with 0
    assert (tmp_path / "recorded" / PICTURE).read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "plain" / RECORD).exists()


def test_a_run_that_goes_on_has_each_step_once(
    intents: Dataset, tiny: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Report.step

    def interrupt(self: Report, *args: float) -> None:
        step(self, *args)
        if self.sums.rows and self.progress.tasks[0].completed == 4:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Report, "step", interrupt)
    with pytest.raises(Interrupted):
        train(intents, tiny(epochs=2), tmp_path / "run", record_norms=True)
    monkeypatch.undo()
    path = tmp_path / "run" / RECORD
    rows = read_record(path)
    path.write_text(path.read_text() + json.dumps(rows[-1] | {"step": 9}) + "\n")  # of a step that is repeated
    train(intents, tiny(epochs=2), tmp_path / "run", record_norms=True)
    assert [row["step"] for row in read_record(path)] == list(range(12))


@pytest.mark.parametrize("content", ["[", "3\n", '{"step": 1}\n'])
def test_a_spoiled_record_is_begun_anew(tmp_path: Path, content: str) -> None:
    (tmp_path / RECORD).write_text(content)
    assert read_record(tmp_path / RECORD) == []
