"""C11 exactly: the block is PyTorch's layer; and that cells, comparisons and picture belong together."""

import pytest
import torch

from studies.blocks import c11_add_and_norm as claim
from studies.claim import Cell
from tests.studies.fakes import check, same_twice


@pytest.mark.parametrize("seed", [2000, 2001])
def test_post_block_matches_torch_layer_and_pre_block_does_not(seed):
    torch.manual_seed(seed)
    assert claim.difference("post") < 1e-12
    assert claim.difference("torch") < 1e-12
    assert claim.difference("pre") > 0.1


def test_a_wrong_weight_shows(monkeypatch):
    swapped = {**claim.WEIGHTS, "norm1.": "feed_forward.norm.", "norm2.": "attention.norm."}
    monkeypatch.setattr(claim, "WEIGHTS", swapped)
    assert claim.difference("post") > 0.01


@pytest.mark.parametrize(("norm", "placement", "warmup"), [("layer_norm", "post", 30), ("none", "pre", 0)])
def test_cells_are_repeatable_and_comparisons_and_picture_find_them(monkeypatch, norm, placement, warmup):
    monkeypatch.setattr(claim, "STEPS", 2)
    monkeypatch.setattr(claim, "LAYERS", 1)
    cell = Cell.of(2000, **claim.arm(norm, placement, warmup), rate=0.001)
    exact = claim.run(Cell.of(2000, **claim.exact("post")))
    check(claim.CLAIM, {**same_twice(claim.CLAIM, cell), **exact})
