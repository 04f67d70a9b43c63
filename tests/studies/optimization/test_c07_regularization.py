"""C7: ghost BatchNorm is BatchNorm of each group, and that cells, comparisons and picture belong together."""

import pytest
import torch

from model.network.norms import BatchNorm
from studies.claim import Cell
from studies.optimization import c07_regularization as claim
from tests.studies.fakes import check, same_twice


def test_ghost_normalizes_each_group_as_if_it_were_alone():
    x_BSC = torch.randn(2 * claim.GROUP, 3, 4) * torch.arange(1, 21).reshape(20, 1, 1)
    valid = torch.ones(20, 3, 1)
    ghost, plain = claim.Ghost(BatchNorm(4, 1e-5)).train(), BatchNorm(4, 1e-5).train()
    found, _ = ghost(x_BSC, valid)
    for part in (slice(0, 10), slice(10, 20)):
        torch.testing.assert_close(found[part], plain(x_BSC[part], valid[part])[0])
    torch.testing.assert_close(ghost.norm.running_var, plain.running_var)
    torch.testing.assert_close(ghost.eval()(x_BSC, valid)[0], plain.eval()(x_BSC, valid)[0])


@pytest.mark.parametrize(("norm", "batch"), [("ghost", 100), ("layer_norm", 10)])
def test_cells_are_repeatable_and_comparisons_and_picture_find_them(monkeypatch, norm, batch):
    monkeypatch.setattr(claim, "STEPS", 3)
    check(claim.CLAIM, same_twice(claim.CLAIM, Cell.of(2000, norm=norm, batch=batch, rate=0.1)))
