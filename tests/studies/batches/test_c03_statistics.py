"""C3 exactly: what the modules compute is the hand formula, and neighbours reach a sample through BatchNorm only."""

import numpy as np
import pytest
import torch

from studies.batches.c03_statistics import run
from studies.claim import Cell
from studies.networks import EPS, RowNorm

ROWS = np.random.default_rng(0).normal(2, 3, (5, 4))


def by_hand(axis: int) -> np.ndarray:
    mean, variance = ROWS.mean(axis, keepdims=True), ROWS.var(axis, keepdims=True)
    return (ROWS - mean) / np.sqrt(variance + EPS)


@pytest.mark.parametrize(("norm", "axis"), [("batch_norm", 0), ("layer_norm", 1)])
def test_norms_are_the_hand_formula_over_the_batch_and_over_the_features(norm, axis):
    module = RowNorm(norm, 4).double().train()
    rows = torch.from_numpy(ROWS)
    np.testing.assert_allclose(module(rows).detach().numpy(), by_hand(axis), rtol=1e-12)


@pytest.mark.parametrize(("norm", "moves"), [("layer_norm", False), ("rms_norm", False), ("batch_norm", True)])
def test_only_a_batch_norm_in_training_is_moved_by_neighbours(norm, moves):
    found = run(Cell.of(0, norm=norm))
    assert (found["training_64"] > 0.1) == moves
    assert found["inference_64"] < 1e-5 and found["inference_1"] == 0
