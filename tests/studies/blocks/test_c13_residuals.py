"""C13: gradient ratio and change of known layers, and that cells, comparisons and picture belong together."""

import math

import pytest
import torch
from torch.nn import functional as F

from studies.blocks import c13_residuals as claim
from studies.claim import Cell
from studies.networks import mlp
from studies.tasks import Split
from tests.studies.fakes import check, same_twice


@torch.no_grad()
def scaled(path, factor, depth=3):
    """Layers that multiply positive inputs by a factor (and add them, if residual)."""
    network = mlp("none", depth, residual=path == "residual")
    for layer in claim.hidden(network):
        layer.linear.weight.copy_(factor * torch.eye(64))
    return network


@pytest.mark.parametrize(("path", "change"), [("plain", 0.75), ("residual", 0.25)])
def test_change_is_the_share_by_which_a_layer_moves_its_input(path, change):
    assert claim.change(scaled(path, 0.25), torch.rand(8, 64)) == pytest.approx(change, rel=1e-5)


def test_ratio_of_layers_that_multiply_is_what_lies_between_them(monkeypatch):
    monkeypatch.setattr(F, "cross_entropy", lambda outputs, _targets: outputs.sum())
    network, batch = scaled("plain", 1.0), Split(torch.rand(8, 64), torch.zeros(8))
    with torch.no_grad():
        network[-1].weight.fill_(0.1)
    assert claim.ratio(network, batch) == pytest.approx(0, abs=1e-5)
    with torch.no_grad():
        network[1].linear.weight.mul_(10)  # the first layer's gradient passes it and the last; the last reads 10 x
        network[2].linear.weight.mul_(0.01)
    assert claim.ratio(network, batch) == pytest.approx(math.log10(10 * 0.01 / 10), abs=1e-5)


def test_measuring_moves_no_running_moments():
    network = mlp("batch_norm", 2)
    claim.ratio(network, Split(torch.rand(8, 64), torch.zeros(8, dtype=torch.int64)))
    assert not network[0].norm.norm.running_mean.any()


@pytest.mark.parametrize("path", ["plain", "scaled"])
def test_cells_are_repeatable_and_comparisons_and_picture_find_them(monkeypatch, path):
    monkeypatch.setattr(claim, "STEPS", 2)
    cell = Cell.of(2000, **claim.arm("none", path, 4), rate=0.1)
    check(claim.CLAIM, same_twice(claim.CLAIM, cell))
