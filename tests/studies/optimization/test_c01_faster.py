"""C1: when a loss counts as reached, and that cells, comparisons and picture belong together."""

import pytest

from studies.claim import Cell
from studies.optimization import c01_faster as claim
from tests.studies.fakes import check, same_twice


def test_loss_is_reached_where_the_mean_of_ten_steps_first_is_below_it():
    assert claim.until([1.0] * 5 + [0.0] * 20, 200) == 11  # 4 of its ten are 1
    assert claim.until([0.4] * 9, 200) == 200  # there are no ten steps
    assert claim.until([1.0] * 50, 200) == 200


@pytest.mark.parametrize(("network", "depth"), [("mlp", 12), ("encoder", 8)])
def test_cells_are_repeatable_and_comparisons_and_picture_find_them(monkeypatch, network, depth):
    monkeypatch.setattr(claim, "STEPS", {"mlp": 12, "encoder": 3})
    cell = Cell.of(2000, **claim.arm(network, depth, "layer_norm"), rate=0.01)
    check(claim.CLAIM, same_twice(claim.CLAIM, cell))
