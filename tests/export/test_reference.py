"""What the reference says of the pairs of columns and of what they share, against all columns' correlations."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import export.reference
from export.reference import RIDGE, common_direction, null_scores, pair_precision


def correlated(pairs: int, seed: int) -> np.ndarray:
    """Requests [200, 2 * pairs + 1] in sigma, whose columns go together."""
    rng, columns = np.random.default_rng(seed), 2 * pairs + 1
    x = rng.normal(size=(200, columns)) @ rng.normal(size=(columns, columns))
    return x / np.sqrt(np.square(x).mean(0))


requests = st.builds(correlated, st.integers(3, 8), st.integers(0, 2**32))


@given(requests)
def test_pairs_have_the_inverse_of_their_correlation(unit: np.ndarray):
    shrunk = (1 - RIDGE) * unit.T @ unit / len(unit) + RIDGE * np.eye(unit.shape[1])
    for pair, block in enumerate(pair_precision(unit)):
        columns = slice(2 * pair, 2 * pair + 2)
        np.testing.assert_allclose(block @ shrunk[columns, columns], np.eye(2), atol=1e-9)


@given(requests)
def test_what_all_layers_share_goes_with_the_unlikeness_and_has_unit_variance(unit: np.ndarray):
    direction, correlation = common_direction(unit), unit.T @ unit / len(unit)
    np.testing.assert_allclose(direction @ correlation @ direction, 1)
    np.testing.assert_array_equal(np.sign(direction[3:-3:2]), np.sign(correlation[3:-3:2, -1]))
    assert not direction[[0, 1, -3, -2, -1]].any() and not direction[2:-3:2].any()


def test_columns_that_never_vary_count_as_if_they_did():
    unit = correlated(5, 0)
    alone = common_direction(unit)
    unit[:, 5] = 1e-10 * unit[:, 5]
    constant = common_direction(unit)
    rest = np.where(np.arange(unit.shape[1]) == 5, 0.0, constant)
    assert abs(constant[5]) == np.abs(constant).max() > 0
    assert np.isclose(np.square(unit @ rest).mean() + constant[5] ** 2, 1) and alone[5] != constant[5]


def test_windows_are_sums_of_requests(monkeypatch):
    monkeypatch.setattr(export.reference, "DRAWS", 4000)
    unit = correlated(4, 1)
    unit -= unit.mean(0)
    scores = null_scores(unit, 50, pair_precision(unit), np.eye(9)[8:], np.random.default_rng(0))
    assert scores.shape == (4000, 5)
    np.testing.assert_allclose(scores[:, 4].std(), unit[:, 8].std(), rtol=0.05)  # a mean of 50, in its own sigma
    np.testing.assert_allclose(scores[:, :4].mean(0), 2, rtol=0.1)  # chi-square of two
