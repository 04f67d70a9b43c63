"""C4: how a sample's logits vary with its batch, and that cells, comparisons and picture belong together."""

import matplotlib as mpl
import pytest
import torch
from torch import nn

from studies.batches import c04_batch_size as claim
from studies.claim import QUICK, Cell
from studies.networks import RowNorm, mlp
from studies.pictures import STYLE, new_figure
from studies.tasks import Split
from tests.studies.fakes import complete, same_twice

DATA = Split(torch.randn(4000, 16, generator=torch.Generator().manual_seed(0)), torch.zeros(4000, dtype=torch.int64))


def test_a_layer_norm_network_does_not_vary_with_the_batch():
    torch.manual_seed(0)
    data = Split(torch.randn(100, 64), torch.zeros(100, dtype=torch.int64))
    assert claim.deviation(mlp("layer_norm", 4), data, 8, 0) < 1e-6


def test_what_one_batch_norm_gives_varies_like_the_error_of_a_mean(monkeypatch):
    monkeypatch.setattr(claim, "DRAWS", 150)
    small, middle, large = (claim.deviation(RowNorm("batch_norm", 16), DATA, size, 0) for size in (16, 64, 256))
    assert small / middle == pytest.approx(2, rel=0.15)
    assert middle / large == pytest.approx(2, rel=0.15)


def test_accuracy_in_batches_uses_their_moments_and_leaves_the_running_ones():
    norm = RowNorm("batch_norm", 2)
    inputs = torch.tensor([[5.0, 1.0], [7.0, 0.0], [9.0, 3.0], [8.0, 4.0], [1.0, 1.0]])
    # of each pair, the first is (-1, 1) or (1, -1), and the second the opposite; the fifth has no partner
    data = Split(inputs, torch.tensor([1, 0, 0, 0, 0]))
    assert claim.accuracy_in_batches(nn.Sequential(norm), data, 2) == 0.75
    assert norm.norm.running_mean.tolist() == [0, 0]


@pytest.mark.parametrize("norm", ["layer_norm", "batch_norm"])
def test_cells_are_repeatable_and_comparisons_and_picture_find_them(monkeypatch, norm):
    monkeypatch.setattr(claim, "SAMPLES", 20)
    monkeypatch.setattr(claim, "DRAWS", 3)
    found = complete(claim.CLAIM, same_twice(claim.CLAIM, Cell.of(2000, **claim.arm(norm, 4), rate=0.1)))
    for comparison in claim.COMPARISONS:
        for arm in (comparison.a, comparison.b):
            assert found.values(comparison.measure, QUICK, **arm).shape == (len(QUICK),)
    with mpl.rc_context(STYLE):
        figure = new_figure()
        claim.draw(found, QUICK, figure)
        figure.canvas.draw()
    assert all(axes.has_data() for axes in figure.axes)
