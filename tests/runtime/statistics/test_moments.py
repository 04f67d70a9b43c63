from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from runtime.statistics.moments import Moments
from tests.helpers import assert_same_moments, merge_anyhow, split_anyhow

singles = st.floats(width=32)  # NaN and infinities included
tables = st.integers(1, 3).flatmap(
    lambda k: arrays(np.float64, st.tuples(st.integers(0, 60), st.just(k)), elements=singles)
)
randoms = st.randoms(use_true_random=False)


def moments_of(values: np.ndarray) -> Moments:
    return Moments.of(values, np.isfinite(values))


@given(tables, randoms)
def test_merge_of_any_split_in_any_order_equals_one_pass(values: np.ndarray, random: Random):
    parts = [moments_of(part) for part in split_anyhow(values, random)]
    assert_same_moments(merge_anyhow(parts, random), moments_of(values), 1e-12)


@given(tables)
def test_moments_match_numpy(values: np.ndarray):
    found = moments_of(values)
    for k, column in enumerate(values.T):
        finite = column[np.isfinite(column)]
        if not len(finite):
            assert (found.count[k], found.mean[k], found.variance[k]) == (0, 0, 0)
            continue
        scale = np.abs(finite).max()
        assert (found.count[k], found.minimum[k], found.maximum[k]) == (len(finite), finite.min(), finite.max())
        assert found.mean[k] == pytest.approx(finite.mean(), abs=1e-12 * scale)
        assert found.variance[k] == pytest.approx(finite.var(), abs=1e-12 * scale**2)
        assert found.std[k] == pytest.approx(np.sqrt(found.variance[k]))


def test_empty_is_neutral():
    moments = moments_of(np.random.default_rng(0).normal(3, 2, (50, 2)))
    assert_same_moments(Moments.empty(2).merge(moments), moments, 1e-15)
    assert_same_moments(moments.merge(Moments.empty(2)), moments, 1e-15)


def test_variance_survives_a_mean_a_million_times_larger():
    values = 1e6 + np.random.default_rng(0).standard_normal((4096, 1))
    found = merge_anyhow([moments_of(part) for part in np.split(values, 64)], Random(0))
    assert found.variance[0] == pytest.approx(values.var(), rel=1e-9)


def test_variance_of_equal_values_is_zero():
    assert moments_of(np.full((7, 1), 0.1)).variance[0] == pytest.approx(0, abs=1e-33)


def test_columns_count_their_own_values():
    moments = moments_of(np.array([[1.0, np.nan], [3.0, 5.0], [np.inf, 7.0]]))
    assert moments.count.tolist() == [2, 2]
    assert moments.mean.tolist() == [2, 6]
    assert moments.variance.tolist() == [1, 1]
