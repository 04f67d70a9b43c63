"""C5: what counts as a rate that works, and that cells, comparisons and picture belong together."""

import pytest

from studies.claim import Cell
from studies.optimization import c05_rates as claim
from tests.studies.fakes import check, same_twice

CELL = Cell.of(2000, norm="batch_norm", gain=1.0)


def test_the_highest_rate_that_works_and_the_range_of_those_that_do(monkeypatch):
    accuracies = dict(zip(claim.RATES, (0.5, 0.9, 0.95, 0.91, 0.92, 0.89, 0.1), strict=True))
    monkeypatch.setattr(claim, "accuracy", lambda _cell, rate: accuracies[rate])
    found = claim.run(CELL)
    assert found["top"] == 0 and found["range"] == 2 and found["best"] == 0.95


def test_where_no_rate_works_the_highest_is_below_all(monkeypatch):
    monkeypatch.setattr(claim, "accuracy", lambda _cell, _rate: 0.5)
    assert claim.run(CELL)["top"] == pytest.approx(-2.5) and claim.run(CELL)["range"] == 0


def test_a_rate_that_diverges_is_a_guess(monkeypatch):
    monkeypatch.setattr(claim, "STEPS", 20)
    assert claim.accuracy(Cell.of(2000, norm="none", gain=3.0), 10.0) == 0.1


def test_cells_are_repeatable_and_comparisons_and_picture_find_them(monkeypatch):
    monkeypatch.setattr(claim, "STEPS", 3)
    check(claim.CLAIM, same_twice(claim.CLAIM, CELL))
