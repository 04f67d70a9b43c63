"""C9: cells are repeatable, and cells, comparisons and picture belong together."""

import pytest

from studies.batches import c09_where as claim
from studies.claim import Cell
from tests.studies.fakes import check, same_twice


@pytest.mark.parametrize(("network", "norm"), [("cnn", "batch_norm"), ("encoder", "layer_norm")])
def test_cells_are_repeatable_and_comparisons_and_picture_find_them(monkeypatch, network, norm):
    monkeypatch.setattr(claim, "STEPS", dict.fromkeys(claim.NETWORKS, dict.fromkeys(claim.SIZES, 3)))
    check(claim.CLAIM, same_twice(claim.CLAIM, Cell.of(2000, **claim.arm(network, norm, 2), rate=0.01)))


def test_arms_of_a_network_and_a_batch_size_start_and_read_alike(monkeypatch):
    monkeypatch.setattr(claim, "STEPS", dict.fromkeys(claim.NETWORKS, dict.fromkeys(claim.SIZES, 1)))
    seen = []
    monkeypatch.setattr(claim, "train", lambda network, _split, **given: seen.append((network, given)) or [1.0])
    for norm in claim.NORMS:
        same_twice(claim.CLAIM, Cell.of(2000, **claim.arm("cnn", norm, 16), rate=0.1))
    (first, first_given), (second, second_given) = seen[0], seen[2]
    assert first_given == second_given
    assert (first[0].convolution.weight == second[0].convolution.weight).all()
