"""C12 exactly: the formulas of one Add & Norm, and its Jacobian by hand; cells, comparisons and picture."""

import numpy as np
import pytest
import torch
from torch import nn

from model.network.layers import AddNorm
from studies.blocks import c12_jacobian as claim
from studies.claim import Cell
from studies.networks import EPS, encoder
from tests.studies.fakes import check, same_twice


def error(around, sublayer, formula):
    torch.manual_seed(2000)
    return claim.run(Cell.of(2000, **claim.arm(around, sublayer, formula)))["error"]


@pytest.mark.parametrize("sublayer", claim.SUBLAYERS)
def test_chain_rule_is_exact_and_the_notes_formula_only_without_a_norm_after(sublayer):
    for around in claim.AROUND:
        assert error(around, sublayer, "chain") < 1e-13
    assert error("bare", sublayer, "notes") < 1e-13
    assert error("pre", sublayer, "notes") < 1e-13
    assert error("post", sublayer, "notes") > 0.05


def layer_norm_jacobian(z):
    """(I - 1 1^T / D - z' z'^T / D) / sigma, where z' is z normalized."""
    sigma = np.sqrt(z.var() + EPS)
    normalized = (z - z.mean()) / sigma
    return (np.eye(len(z)) - 1 / len(z) - np.outer(normalized, normalized) / len(z)) / sigma


def test_jacobians_of_a_linear_sublayer_are_those_by_hand(monkeypatch):
    monkeypatch.setattr(claim, "STEPS", 1)
    block = encoder("layer_norm", "post", 1, d_model=8).encoder.blocks[0].feed_forward.double()
    assert isinstance(block, AddNorm)
    block.sublayer = nn.Linear(8, 8, bias=False).double()
    x = torch.randn(8, dtype=torch.float64)
    matrix = np.eye(8) + block.sublayer.weight.detach().numpy()
    whole, notes, chain = claim.jacobians(block, x, ())
    np.testing.assert_allclose(notes, matrix, atol=1e-14)
    by_hand = layer_norm_jacobian(matrix @ x.numpy()) @ matrix
    np.testing.assert_allclose(whole, by_hand, atol=1e-13)
    np.testing.assert_allclose(chain, by_hand, atol=1e-13)


def test_a_weak_sublayer_passes_on_what_the_norm_alone_does():
    torch.manual_seed(2000)
    passed = {
        around: claim.run(Cell.of(2000, **claim.arm(around, "weak", "notes")))["passed"] for around in claim.AROUND
    }
    assert passed["bare"] == pytest.approx(1, abs=0.02)
    assert passed["post"] == pytest.approx((1 - 2 / claim.WIDTH) ** 0.5, abs=0.02)  # a norm drops two directions


def test_cells_are_repeatable_and_comparisons_and_picture_find_them():
    check(claim.CLAIM, same_twice(claim.CLAIM, Cell.of(2000, **claim.arm("post", "attention", "notes"))))
