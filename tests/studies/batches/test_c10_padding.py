"""C10 exactly: padding reaches a sequence through an unmasked BatchNorm only, and neighbours through a masked one."""

import numpy as np
import pytest
import torch

from model.network.norms import BatchNorm
from studies.batches import c10_padding as claim
from studies.claim import Cell
from tests.studies.fakes import check, same_twice


def test_an_unmasked_norm_takes_padding_for_values():
    x_BSD, valid = torch.tensor([[[1.0], [3.0], [0.0], [0.0]]]), torch.tensor([[[1.0], [1.0], [0.0], [0.0]]])
    masked, unmasked = BatchNorm(1, 0.0).train(), claim.Unmasked(BatchNorm(1, 0.0)).train()
    assert masked(x_BSD, valid)[0].flatten()[:2].tolist() == [-1, 1]  # mean 2, deviation 1
    np.testing.assert_allclose(  # mean 1, deviation sqrt(1.5)
        unmasked(x_BSD, valid)[0].detach().flatten(), np.array([0, 2, -1, -1]) / 1.5**0.5, rtol=1e-6
    )


@pytest.mark.parametrize(
    ("norm", "padding", "neighbours"),
    [("layer_norm", False, False), ("masked", False, True), ("unmasked", True, True)],
)
def test_what_moves_a_sequence(norm, padding, neighbours):
    found = same_twice(claim.CLAIM, Cell.of(2000, norm=norm))
    for measure in ("training", "inference"):
        assert (found[measure] > 0.05) == padding and (padding or found[measure] < 1e-4)
    assert (found["neighbours"] > 0.05) == neighbours and (neighbours or found["neighbours"] < 1e-4)


def test_cells_comparisons_and_picture_belong_together():
    check(claim.CLAIM, same_twice(claim.CLAIM, Cell.of(2000, norm="masked")))
