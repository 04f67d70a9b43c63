"""C17: what BatchNorm makes of one and two samples, and that cells, comparisons and picture belong together."""

import pytest
import torch

from studies.batches import c17_online as claim
from studies.claim import Cell
from studies.networks import RowNorm
from tests.studies.fakes import check, same_twice


def test_one_sample_is_told_as_nothing_and_two_as_plus_and_minus_one():
    norm = RowNorm("batch_norm", 2).train()
    assert norm(torch.tensor([[5.0, -3.0]])).tolist() == [[0, 0]]
    found = norm(torch.tensor([[5.0, -3.0], [9.0, -4.0]]))
    torch.testing.assert_close(found, torch.tensor([[-1.0, 1.0], [1.0, -1.0]]), rtol=0, atol=1e-4)


@pytest.mark.parametrize(("size", "steps"), [(1, 1200), (2, 600)])
def test_each_digit_is_seen_once(monkeypatch, size, steps):
    seen = []
    monkeypatch.setattr(claim, "train", lambda _network, split, **given: seen.append((split, given)) or [1.0])
    claim.run(Cell.of(2000, **claim.arm("none", size), rate=0.1))
    ((split, given),) = seen
    assert given["steps"] == steps and given["batch"] * given["steps"] == len(split.targets)


@pytest.mark.parametrize(("norm", "size"), [("none", 1), ("layer_norm", 2), ("batch_norm", 1), ("batch_norm", 2)])
def test_cells_are_repeatable_and_comparisons_and_picture_find_them(monkeypatch, norm, size):
    monkeypatch.setattr(claim, "SAMPLES", 8)
    check(claim.CLAIM, same_twice(claim.CLAIM, Cell.of(2000, **claim.arm(norm, size), rate=0.01)))
