"""C8: range, gradient change and beta of a known loss, and that cells, comparisons and picture belong together."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from studies.claim import Cell
from studies.optimization import c08_smoothness as claim
from studies.tasks import Split
from tests.studies.fakes import check, same_twice

CURVATURE = 3.0


def half_square(outputs, _targets):
    return CURVATURE / 2 * outputs.square().sum()


def test_measures_of_a_quadratic_are_those_of_its_curvature(monkeypatch):
    monkeypatch.setattr(F, "cross_entropy", half_square)
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 1.0)
    batch = Split(torch.ones(1, 1), torch.zeros(1))
    here, loss_range, change, beta = claim.along_gradient(network, batch)
    losses = [CURVATURE / 2 * (1 - factor * claim.RATE * CURVATURE) ** 2 for factor in claim.FACTORS]
    assert here == pytest.approx(CURVATURE / 2)
    assert loss_range == pytest.approx(max(losses) - min(losses), rel=1e-4)
    assert change == pytest.approx(CURVATURE * max(claim.FACTORS) * claim.RATE * CURVATURE, rel=1e-4)
    assert beta == pytest.approx(CURVATURE, rel=1e-4)


def test_measuring_changes_nothing(monkeypatch):
    monkeypatch.setattr(claim, "STEPS", 5)
    measures = same_twice(claim.CLAIM, Cell.of(2000, norm="batch_norm"))
    monkeypatch.setattr(claim, "EVERY", 100)
    torch.manual_seed(2000)
    assert claim.run(Cell.of(2000, norm="batch_norm"))["loss"] == measures["loss"]


def test_cells_are_repeatable_and_comparisons_and_picture_find_them(monkeypatch):
    monkeypatch.setattr(claim, "STEPS", 5)
    check(claim.CLAIM, same_twice(claim.CLAIM, Cell.of(2000, norm="batch_norm")))
