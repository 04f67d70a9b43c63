"""C2: shift and cosine of known inputs, the noise, and that cells, comparisons and picture belong together."""

import pytest
import torch

from studies.claim import Cell
from studies.networks import Layer, mlp
from studies.optimization import c02_covariate_shift as claim
from tests.studies.fakes import check, same_twice


def test_cosine_of_equal_gradients_is_one_and_of_opposite_ones_minus_one():
    gradient = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    assert claim.cosine(gradient, 3 * gradient) == pytest.approx(1)
    assert claim.cosine(gradient, -gradient) == pytest.approx(-1)


def test_shift_is_in_deviations_of_a_unit():
    before = torch.tensor([[-1.0, -2.0], [0.0, 0.0], [1.0, 2.0]])  # deviations 1 and 2
    assert claim.shift(before, before) == 0
    assert claim.shift(before, before + 5) == pytest.approx((25 / 2.5) ** 0.5)
    assert claim.shift(before, 3 * before) == pytest.approx(((4 + 16) / 5) ** 0.5)


def test_noise_moves_outputs_in_training_only_and_stays_until_it_is_drawn_anew():
    network, inputs = mlp("batch_norm", 2), torch.randn(16, 64)
    layer = network[0]
    assert isinstance(layer, Layer)
    clean = network.eval()(inputs)
    layer.norm = claim.Noisy(layer.norm)
    claim.redraw(network, seed=1, step=0)
    assert torch.equal(network.eval()(inputs), clean)
    first = network.train()(inputs)
    assert torch.equal(network(inputs), first)
    claim.redraw(network, seed=1, step=1)
    assert not torch.allclose(network(inputs), first)


@pytest.mark.parametrize("norm", ["none", "noisy"])
def test_without_a_rate_nothing_moves_but_the_noise(monkeypatch, norm):
    monkeypatch.setattr(claim, "STEPS", 11)
    found = claim.run(Cell.of(2000, norm=norm, rate=0.0))
    assert found["cosine"] == pytest.approx(1, abs=1e-5)
    assert (found["shift"] > 0.1) == (norm == "noisy")


def test_cells_are_repeatable_and_comparisons_and_picture_find_them(monkeypatch):
    monkeypatch.setattr(claim, "STEPS", 11)
    check(claim.CLAIM, same_twice(claim.CLAIM, Cell.of(2000, norm="noisy", rate=0.1)))
