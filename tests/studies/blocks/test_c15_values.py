"""C15: kurtosis and extremes of known samples, and that cells, comparisons and picture belong together."""

import pytest
import torch

from studies.blocks import c15_values as claim
from studies.claim import Cell
from studies.networks import encoder
from studies.training import WORST
from tests.studies.fakes import check, same_twice


def test_kurtosis_of_known_samples():
    two_values = torch.tensor([[-1.0], [1.0]]).repeat(8, 1)
    assert claim.kurtosis(two_values) == pytest.approx(-2)
    one_of_ten = torch.tensor([[1.0]] + [[0.0]] * 9)
    assert claim.kurtosis(one_of_ten) == pytest.approx((1 - 6 * 0.09) / 0.09)  # Bernoulli's, p = .1
    assert claim.kurtosis(torch.cat([two_values[:10], 5 * one_of_ten + 3], 1)) == pytest.approx((-2 + 0.46 / 0.09) / 2)


def test_kurtosis_of_a_large_normal_sample_is_zero():
    sample = torch.randn(100_000, 2, generator=torch.Generator().manual_seed(0))
    assert claim.kurtosis(sample) == pytest.approx(0, abs=0.05)


def test_extreme_is_the_largest_over_the_median_in_powers_of_ten():
    assert claim.extreme(torch.tensor([[0.5, -100.0, 1.0]])) == pytest.approx(2)


@pytest.mark.parametrize("placement", ["post", "pre"])
def test_values_are_those_of_all_blocks_and_norms(placement):
    network = encoder("layer_norm", placement, 2, d_model=8)
    found = claim.values(network, torch.randn(3, 8, 8))
    assert len(found["stream"]) == 2 and len(found["before"]) == len(found["after"]) == 5
    for before, after in zip(found["before"], found["after"], strict=True):
        torch.testing.assert_close(after, torch.nn.functional.layer_norm(before, (8,)))
    if placement == "post":
        torch.testing.assert_close(found["stream"][-1], found["after"][-1])
    assert not any(each._forward_hooks for each in network.modules())


def test_without_a_norm_nothing_is_smoothed(monkeypatch):
    monkeypatch.setattr(claim, "STEPS", 2)
    monkeypatch.setattr(claim, "LAYERS", 1)
    assert claim.run(Cell.of(2000, **claim.arm("none", "pre"), rate=0.001))["smoothed"] == 0


def test_cells_are_repeatable_and_comparisons_and_picture_find_them(monkeypatch):
    monkeypatch.setattr(claim, "STEPS", 4)
    monkeypatch.setattr(claim, "EVERY", 2)
    monkeypatch.setattr(claim, "LAYERS", 2)
    check(claim.CLAIM, same_twice(claim.CLAIM, Cell.of(2000, **claim.arm("layer_norm", "post"), rate=0.001)))


def test_a_run_that_ends_early_has_curves_of_the_same_length(monkeypatch):
    monkeypatch.setattr(claim, "STEPS", 4)
    monkeypatch.setattr(claim, "EVERY", 2)
    monkeypatch.setattr(claim, "LAYERS", 1)
    found = claim.run(Cell.of(2000, **claim.arm("none", "pre"), rate=1e30))
    assert found["diverged"] and found["loss"] == WORST
    assert len(found["extreme_by_step"]) == 3
