"""C20: statistics of a known encoder and known moves, and that cells, comparisons and picture belong together."""

import numpy as np
import torch

from studies.blocks import c20_served as claim
from studies.claim import Cell
from studies.networks import encoder
from studies.tasks import digits
from tests.studies.fakes import check, same_twice


def test_a_move_is_told_in_deviations_of_rows_and_by_the_farther_of_mean_and_variance():
    usual = np.random.default_rng(0).normal(0, [[[2.0, 1.0], [1.0, 4.0]]], (5000, 2, 2))
    now = usual + np.array([[[1.0, 0.0], [0.0, -8.0]]])
    np.testing.assert_allclose(claim.moves(usual, now), [0.5, 2.0], rtol=0.05)


def test_statistics_are_those_of_the_tokens_that_enter_a_norm():
    torch.manual_seed(2000)
    network = encoder("layer_norm", "post", 1, d_model=claim.WIDTH).eval()
    inputs = digits("sequences")[1].inputs[:3]
    seen = []
    network.encoder.embeddings.norm.register_forward_hook(lambda _module, given, _result: seen.append(given[0]))
    found = claim.statistics(network, inputs)
    tokens = seen[0].detach().double()
    np.testing.assert_allclose(found[:, 0, 0], tokens.mean((1, 2)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found[:, 1, 0], tokens.var(2, correction=0).mean(1), rtol=1e-3)
    assert found.shape == (3, 2, 3)


def test_the_classes_are_divided():
    known, unknown = (claim.of(digits("sequences")[1], part) for part in (True, False))
    assert set(unknown.targets.tolist()) == {8, 9} and len(known.targets) + len(unknown.targets) == 300


def test_cells_are_repeatable_and_comparisons_and_picture_find_them(monkeypatch):
    monkeypatch.setattr(claim, "STEPS", 5)
    check(claim.CLAIM, same_twice(claim.CLAIM, Cell.of(2000, rate=1e-3, placement="pre")))
