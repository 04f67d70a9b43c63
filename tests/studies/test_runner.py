"""A study: what is missing runs, nothing twice; what fails is told, and what was computed is kept."""

import io
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runtime.console import PlainConsole
from runtime.errors import DataError
from studies.cells import Cells
from studies.claim import QUICK, Cell, Measures
from studies.report import write
from studies.runner import Study
from tests.studies.toy import RATES, TOY

CELLS = 2 * (2 * len(RATES) + len(QUICK))  # of two arms: tuning seeds at each rate, and the seeds that are reported


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Cell]]:
    """The cells that ran, in threads in the place of processes."""
    cells: list[Cell] = []

    def run_cell(_number: str, cell: Cell) -> Measures:
        cells.append(cell)
        return TOY.run(cell)

    monkeypatch.setattr("studies.runner.ProcessPoolExecutor", lambda count, *_, **__: ThreadPoolExecutor(count))
    monkeypatch.setattr("studies.runner.run_cell", run_cell)
    yield cells


def study(folder: Path, **changes: Any) -> Study:
    return Study([replace(TOY, **changes)], QUICK, folder)


def quiet() -> PlainConsole:
    return PlainConsole(file=io.StringIO())


def test_rates_are_chosen_first_and_nothing_runs_twice(tmp_path: Path, ran: list[Cell]) -> None:
    study(tmp_path).run(quiet(), 2)
    assert len(ran) == CELLS and {cell["rate"] for cell in ran if cell.seed in QUICK} == {1.0}
    study(tmp_path).run(quiet(), 2)
    assert len(ran) == CELLS


def test_more_seeds_run_only_what_is_new(tmp_path: Path, ran: list[Cell]) -> None:
    study(tmp_path).run(quiet(), 1)
    Study([TOY], (*QUICK, 3), tmp_path).run(quiet(), 1)
    assert [cell.seed for cell in ran[CELLS:]] == [3, 3]


@pytest.mark.usefixtures("ran")
def test_a_cell_that_fails_is_told_after_the_others_have_run(tmp_path: Path, monkeypatch) -> None:
    def run_cell(_number: str, cell: Cell) -> Measures:
        if cell.seed == 1000 and cell["rate"] == 0.1 and cell["arm"] == "a":
            raise MemoryError("too much")
        return TOY.run(cell)

    monkeypatch.setattr("studies.runner.run_cell", run_cell)
    with pytest.raises(DataError, match=r'C99 .*"rate": 0.1.* failed .*too much'):
        study(tmp_path).run(quiet(), 1)
    # arm b is whole; a's rate is not chosen
    assert len(Cells(TOY, tmp_path).results.cells) == CELLS - 1 - len(QUICK)


def test_a_data_set_that_cannot_be_had_is_told_once_and_the_others_run(tmp_path: Path, ran: list[Cell]) -> None:
    def missing() -> None:
        raise DataError("digits cannot be downloaded: put the file there.")

    claims = [replace(TOY, number="C98", prepare=missing), TOY]
    with pytest.raises(DataError, match=r"^C98: digits cannot be downloaded: put the file there\.$"):
        Study(claims, QUICK, tmp_path).run(quiet(), 1)
    assert len(ran) == CELLS
    assert len(Cells(TOY, tmp_path).results.cells) == CELLS


def test_an_interruption_keeps_what_was_computed(tmp_path: Path, monkeypatch, ran: list[Cell]) -> None:
    stop: Callable[[], None] = lambda: os.kill(os.getpid(), signal.SIGINT)  # noqa: E731
    release = threading.Event()

    def run_cell(_number: str, cell: Cell) -> Measures:
        ran.append(cell)
        if len(ran) == 5:
            stop()
            release.wait(0.5)
        return TOY.run(cell)

    monkeypatch.setattr("studies.runner.run_cell", run_cell)
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell may have told to ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            study(tmp_path).run(quiet(), 1)
    finally:
        signal.signal(signal.SIGINT, handler)
    kept = len(Cells(TOY, tmp_path).results.cells)
    assert 3 <= kept < CELLS
    before = len(ran)
    study(tmp_path).run(quiet(), 1)
    assert len(Cells(TOY, tmp_path).results.cells) == CELLS and len(ran) - before == CELLS - kept


@pytest.mark.usefixtures("ran")
def test_the_document_has_a_row_and_a_picture_and_says_what_is_exploratory(tmp_path: Path) -> None:
    other = replace(TOY, number="C98", title="Not run")
    study(tmp_path).run(quiet(), 1)
    document = tmp_path / "study.md"
    write([Cells(TOY, tmp_path), Cells(other, tmp_path)], document)
    text = document.read_text()
    assert "| [C99](#c99-toys) | Toys | ✔ supported | loss +1" in text and "exploratory" in text
    assert "| C98 | Not run | not run yet |" in text
    picture = (tmp_path / "img" / "study" / "C99.svg").read_bytes()
    write([Cells(TOY, tmp_path)], document)
    assert (tmp_path / "img" / "study" / "C99.svg").read_bytes() == picture  # the same figures, the same file


def test_as_many_cells_run_as_this_may_use_cpus(
    tmp_path: Path, ran: list[Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []

    def pool(count: int, *_: object, **__: object) -> ThreadPoolExecutor:
        counts.append(count)
        return ThreadPoolExecutor(count)

    monkeypatch.setattr("studies.runner.ProcessPoolExecutor", pool)
    monkeypatch.setattr("studies.runner.usable_cpus", lambda: 1)
    study(tmp_path).run(quiet())
    assert counts == [1] and ran
