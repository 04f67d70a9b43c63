from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from runtime.statistics.histogram import BUCKETS, ZERO, bucket_of, bucket_values, count_buckets, quantile
from tests.helpers import split_anyhow

magnitudes = st.floats(2.0**-20, 2.0**20, width=32, exclude_max=True)
inside = st.one_of(magnitudes, magnitudes.map(lambda value: -value))
columns = arrays(np.float32, st.integers(1, 200), elements=inside)
tables = arrays(np.float32, st.tuples(st.integers(0, 60), st.just(2)), elements=st.floats(allow_nan=False, width=32))


@given(tables, st.randoms(use_true_random=False))
def test_counts_of_any_split_add_up_to_one_pass(values: np.ndarray, random: Random):
    parts = [count_buckets(part) for part in split_anyhow(values, random)]
    np.testing.assert_array_equal(sum(parts), count_buckets(values))


@given(columns, st.floats(0, 1))
def test_quantile_is_within_a_share_of_numpys(values: np.ndarray, q: float):
    expected = np.quantile(values.astype(np.float64), q, method="lower")
    assert quantile(count_buckets(values[:, None])[0], q) == pytest.approx(expected, rel=0.008)


@given(arrays(np.float32, 50, elements=st.floats(allow_nan=False, allow_infinity=False, width=32)))
def test_negative_values_are_mirrored(values: np.ndarray):
    np.testing.assert_array_equal(bucket_of(-values), BUCKETS - 1 - bucket_of(values))


@given(columns)
def test_buckets_are_in_the_order_of_their_values(values: np.ndarray):
    assert (np.diff(bucket_of(np.sort(values))) >= 0).all()


@given(inside)
def test_bucket_value_lies_in_its_bucket(value: float):
    bucket = bucket_of(np.array([value], dtype=np.float32))
    assert bucket_of(bucket_values()[bucket].astype(np.float32)) == bucket


@pytest.mark.parametrize(
    ("value", "bucket"),
    [
        (0.0, ZERO),
        (-0.0, ZERO),
        (2.0**-21, ZERO),
        (-(2.0**-21), ZERO),
        (2.0**-20, ZERO + 1),
        (-(2.0**-20), ZERO - 1),
        (2.0**20, BUCKETS - 1),
        (1e30, BUCKETS - 1),
        (-1e30, 0),
    ],
)
def test_bucket_of_magnitudes_at_and_beyond_the_limits(value: float, bucket: int):
    assert bucket_of(np.array([value], dtype=np.float32)).tolist() == [bucket]


def test_an_octave_has_64_buckets():
    edges = bucket_of(np.array([1.0, 2.0, 4.0], dtype=np.float32))
    assert np.diff(edges).tolist() == [64, 64]


def test_quantiles_at_the_ends_are_the_extreme_buckets():
    counts = count_buckets(np.array([[-8.0], [1.0], [100.0]], dtype=np.float32))[0]
    assert quantile(counts, 0) == pytest.approx(-8, rel=0.008)
    assert quantile(counts, 1) == pytest.approx(100, rel=0.008)
