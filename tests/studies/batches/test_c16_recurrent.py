"""C16: padding does not reach a sequence's state, and that cells, comparisons and picture belong together."""

import pytest
import torch

from studies.batches import c16_recurrent as claim
from studies.claim import Cell
from tests.studies.fakes import check, same_twice, sequences


@pytest.mark.parametrize("norm", claim.NORMS)
def test_what_comes_after_a_sequences_end_does_not_count(norm):
    torch.manual_seed(0)
    network = claim.Recurrent(norm, 8, 8).train()
    whole = sequences(longest=8, features=8, count=6).training.inputs
    noisy = torch.cat([torch.where(whole[..., -1:] > 0, whole[..., :-1], 7.0), whole[..., -1:]], dim=2)
    torch.testing.assert_close(network(noisy), network(whole))


def test_without_a_norm_it_is_torchs_lstm():
    torch.manual_seed(0)
    network, lstm = claim.Recurrent("none", 8, 8), torch.nn.LSTM(8, claim.WIDTH, batch_first=True)
    order = torch.cat([torch.arange(32) + 32 * part for part in (1, 0, 3, 2)])  # torch has write, keep, new, show
    with torch.no_grad():
        lstm.weight_ih_l0.copy_(network.read.weight[order])
        lstm.weight_hh_l0.copy_(network.remember.weight[order])
        lstm.bias_ih_l0.copy_(network.read.bias[order])
        lstm.bias_hh_l0.zero_()
        lstm.bias_hh_l0[32:64] = 1
    x_BSF = torch.randn(3, 8, 8)
    state = lstm(x_BSF)[0][:, -1]
    torch.testing.assert_close(network(torch.cat([x_BSF, torch.ones(3, 8, 1)], dim=2)), network.head(state))


def test_a_batch_norm_has_moments_for_each_step_and_one_gain():
    norm = claim.StepNorm("batch_norm", 1, 8).train()
    rows, valid = torch.tensor([[1.0], [3.0], [9.0]]), torch.tensor([[1.0], [1.0], [0.0]])
    torch.testing.assert_close(norm(rows, valid, 2)[:2], torch.tensor([[-0.1], [0.1]]))  # mean 2, deviation 1
    assert norm(rows, torch.tensor([[1.0], [0.0], [0.0]]), 3).tolist() == [[0], [0], [0]]
    assert [each.running_mean.item() for each in norm.norms] == pytest.approx([0, 0, 0.2, 0, 0, 0, 0, 0])
    assert len(list(norm.parameters())) == 2


@pytest.mark.parametrize("norm", claim.NORMS)
def test_cells_are_repeatable_and_comparisons_and_picture_find_them(monkeypatch, norm):
    monkeypatch.setattr(claim, "STEPS", dict.fromkeys(claim.SIZES, 2))
    monkeypatch.setattr(claim, "TASKS", dict.fromkeys(claim.TASKS, lambda: sequences(longest=8, features=2)))
    check(claim.CLAIM, same_twice(claim.CLAIM, Cell.of(2000, **claim.arm("pen", norm, 2), rate=0.01)))
