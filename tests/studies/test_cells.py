"""Cells that are kept: read again as they were, and never lost."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.errors import DataError
from studies.cells import Cells
from studies.claim import Cell, Results, tuning_cells
from tests.studies.toy import RATES, TOY

CELL = Cell.of(0, arm="a", rate=1.0)


def kept(folder: Path) -> Cells:
    file = Cells(TOY, folder)
    file.add(CELL, {"loss": 0.123456789, "curve": [1.0, math.inf], "broken": math.nan})
    file.save_changes()
    return file


def test_cells_are_read_again_with_six_digits_and_what_is_not_finite(tmp_path: Path) -> None:
    kept(tmp_path)
    measures = Cells(TOY, tmp_path).results.of(0, arm="a")
    assert measures["loss"] == 0.123457 and measures["curve"] == [1.0, math.inf]
    assert math.isnan(measures["broken"])  # type: ignore[arg-type]


def test_nothing_is_written_where_nothing_is_new(tmp_path: Path) -> None:
    path = kept(tmp_path).path
    before = path.stat().st_mtime_ns
    Cells(TOY, tmp_path).save_changes()
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 0}, "has format 0, expected 1"),
        ({"revision": 7}, "holds cells of revision 7"),
        ({"cells": [{"seed": 1}]}, "a cell that is none"),
        ({"cells": 3}, "a cell that is none"),
        (None, "cannot be read"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_in_one_sentence_and_left_alone(tmp_path: Path, change, words) -> None:
    path = kept(tmp_path).path
    text = "[" if change is None else json.dumps(json.loads(path.read_text()) | change)
    path.write_text(text)
    with pytest.raises(DataError, match=words) as error:
        Cells(TOY, tmp_path)
    assert "addnorm study --only C99" in str(error.value) and path.read_text() == text


def test_cells_of_another_claim_are_not_taken(tmp_path: Path) -> None:
    kept(tmp_path)
    with pytest.raises(DataError, match=f"revision {TOY.revision} "):
        Cells(replace(TOY, revision=TOY.revision + 1), tmp_path)


def test_a_full_disk_is_told_and_what_was_kept_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = kept(tmp_path)
    before = file.path.read_text()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("studies.cells.os.fdopen", full)
    file.add(Cell.of(1, arm="a", rate=1.0), {"loss": 1.0})
    with pytest.raises(DataError, match=r"No space left.*make room"):
        file.save_changes()
    assert file.path.read_text() == before and [each.name for each in tmp_path.iterdir()] == [file.path.name]


def test_the_best_rate_is_known_once_all_of_its_cells_are_there_and_divergence_is_the_worst() -> None:
    results = Results({})
    assert results.best("rate", RATES, "loss", arm="a") is None
    for rate, loss in zip(RATES, (2.0, math.nan, 3.0), strict=True):
        results.cells.update({cell: {"loss": loss} for cell in tuning_cells({"arm": "a", "rate": rate})})
    assert results.best("rate", RATES, "loss", arm="a") == 0.1
    assert results.best("rate", RATES, "loss", arm="b") is None


def test_an_arm_is_one_cell_a_seed() -> None:
    results = Results({CELL: {"loss": 1.0}, Cell.of(0, arm="a", rate=2.0): {"loss": 2.0}})
    with pytest.raises(KeyError, match="2 cells"):
        results.values("loss", [0], arm="a")
    assert results.values("loss", [0], arm="a", rate=2.0).tolist() == [2.0]
