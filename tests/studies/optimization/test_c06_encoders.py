"""C6: what counts as a rate that works, and that cells, comparisons and picture belong together."""

import pytest

from studies.claim import Cell
from studies.optimization import c06_encoders as claim
from tests.studies.fakes import check, same_twice

CELL = Cell.of(2000, norm="layer_norm", placement="post", optimizer="sgd")


def test_the_highest_rate_that_works_and_the_losses_of_all(monkeypatch):
    losses = dict(zip(claim.RATES["sgd"], (0.9, 0.5, 1.4, 1.5, 2.3, 4.6), strict=True))
    monkeypatch.setattr(claim, "loss", lambda _cell, rate: losses[rate])
    found = claim.run(CELL)
    assert found["top"] == -1 and found["best"] == 0.5 and found["at_top"] == 4.6


def test_where_no_rate_works_the_highest_is_below_all(monkeypatch):
    monkeypatch.setattr(claim, "loss", lambda _cell, _rate: 2.3)
    assert claim.run(CELL)["top"] == pytest.approx(-2.5)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_cells_are_repeatable_and_comparisons_and_picture_find_them(monkeypatch, optimizer):
    monkeypatch.setattr(claim, "STEPS", 2)
    monkeypatch.setattr(claim, "LAYERS", 1)
    monkeypatch.setattr(claim, "RATES", {"adam": (1e-3, 1e-2), "sgd": (0.1, 1.0)})  # curves of equal length
    cell = Cell.of(2000, norm="layer_norm", placement="post", optimizer=optimizer)
    check(claim.CLAIM, same_twice(claim.CLAIM, cell))
