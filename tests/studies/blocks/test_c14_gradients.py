"""C14: a block's gradient by hand, and that cells, comparisons and picture belong together."""

import numpy as np
import pytest
import torch

from studies.blocks import c14_gradients as claim
from studies.claim import Cell
from studies.networks import encoder
from studies.tasks import Split
from tests.studies.fakes import check, same_twice


def loss(network, batch):
    return torch.nn.functional.cross_entropy(network(batch.inputs), batch.targets)


def test_gradient_is_the_length_of_both_feed_forward_gradients():
    network = encoder("layer_norm", "post", 2, d_model=8)
    batch = Split(torch.randn(4, 8, 8), torch.arange(4))
    found = claim.gradients(network, list(network.encoder.blocks), batch)
    for block, exponent in zip(network.encoder.blocks, found, strict=True):
        weights = [block.feed_forward.sublayer.expand.weight, block.feed_forward.sublayer.contract.weight]
        squares = sum(float(each.square().sum()) for each in torch.autograd.grad(loss(network, batch), weights))
        assert 10**exponent == pytest.approx(squares**0.5, rel=1e-4)


def test_only_matrices_are_amplified():
    torch.manual_seed(0)
    blocks = encoder("layer_norm", "pre", 1, d_model=8).encoder.blocks
    before = {name: each.detach().clone() for name, each in blocks.named_parameters()}
    claim.amplify(blocks, 2.0)
    for name, each in blocks.named_parameters():
        assert torch.equal(each, before[name] * (2 if each.dim() == 2 else 1))


def test_first_and_last_are_of_the_same_network(monkeypatch):
    monkeypatch.setattr(claim, "WIDTH", 8)
    first, last = (same_twice(claim.CLAIM, Cell.of(2000, **claim.arm(6, "pre", 1.0, block))) for block in claim.BLOCKS)
    np.testing.assert_array_equal(first["curve"], last["curve"])
    assert first["gradient"] == first["curve"][0] and last["gradient"] == last["curve"][-1]
    assert len(first["curve"]) == 6


def test_comparisons_and_picture_find_their_cells():
    check(claim.CLAIM, {"gradient": 0.5, "curve": [0.1, 0.3, 0.2]})
