"""Thresholds of the mix of classes: they keep their false alarms, however many classes there are."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.drift.mix import (
    FALSE_ALARMS,
    MANY_CLASSES,
    MIX_DRAWS,
    MIX_SIZES,
    MOST_SKEWNESS,
    WINDOW_SIZES,
    calibrate_mix,
    mix_score,
    negative_binomial,
    reckon,
    scores_by_class,
    scores_by_request,
    scores_of,
)
from runtime.drift.numbers import Floats

LARGE = MIX_SIZES[len(WINDOW_SIZES) :]
WINDOWS = 5000  # that no threshold was drawn from


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def some(classes: int, requests: int, evenness: float) -> Floats:
    """The counts of a baseline; the smaller `evenness`, the more classes are hardly asked for."""
    return rng().multinomial(requests, rng(2).dirichlet(np.full(classes, evenness))).astype(float)


BASELINES = {
    "even": some(MANY_CLASSES, 3000, 100.0),
    "few requests": some(300, 100, 1.0),
    "uneven": some(250, 50_000, 0.3),
    "one class has most": np.array([50_000.0, *[3.0] * 250]),
    "as many of each": np.full(220, 6.0),
}
RARE = np.array([*[1e7] * 10, *[10.0] * 240])  # a single request of those is much: the score has a tail
of_baselines = pytest.mark.parametrize("counts", BASELINES.values(), ids=BASELINES.keys())


def alarms(counts: Floats, thresholds: Floats, sizes: tuple[int, ...], windows: int = WINDOWS) -> Floats:
    """The share of null windows of each size that exceed its threshold."""
    return (scores_by_class(counts, sizes, windows, rng(3)) > thresholds[:, None]).mean(1)


def test_few_classes_have_the_thresholds_of_plain_draws():
    counts = some(12, 300, 1.0)
    drawn = rng(0)
    shares = drawn.dirichlet(counts + 0.5, size=MIX_DRAWS)
    plain = [np.quantile(mix_score(drawn.multinomial(size, shares), counts), 0.99) for size in MIX_SIZES]
    np.testing.assert_array_equal(calibrate_mix(counts), plain)


@of_baselines
def test_small_windows_of_many_classes_have_the_false_alarms_that_are_meant(counts: Floats):
    error = np.sqrt(FALSE_ALARMS * (1 / MIX_DRAWS + 1 / WINDOWS))
    found = alarms(counts, calibrate_mix(counts)[: len(WINDOW_SIZES)], WINDOW_SIZES)
    assert (found < FALSE_ALARMS + 4 * error).all()
    assert abs(found.mean() - FALSE_ALARMS) < 2.5 * error  # all are thresholds of the same windows, and err together


@of_baselines
def test_reckoned_thresholds_have_the_false_alarms_that_are_meant(counts: Floats):
    thresholds, skewness = np.array([reckon(counts, size) for size in LARGE]).T
    assert (skewness < MOST_SKEWNESS).all()
    error = np.sqrt(FALSE_ALARMS / WINDOWS)
    np.testing.assert_allclose(alarms(counts, thresholds, LARGE), FALSE_ALARMS, atol=3.5 * error)


def test_scores_with_a_long_tail_are_drawn_and_not_reckoned():
    thresholds, skewness = np.array([reckon(RARE, size) for size in LARGE]).T
    tail = skewness > MOST_SKEWNESS
    assert tail.tolist() == [True, True, True, False]
    found = calibrate_mix(RARE)[len(WINDOW_SIZES) :]
    np.testing.assert_array_equal(found == thresholds, ~tail)
    assert (alarms(RARE, found, LARGE) < 2 * FALSE_ALARMS).all()


@of_baselines
@pytest.mark.parametrize("sizes", [(20, 200), (1000,)])
def test_windows_drawn_by_request_are_windows_drawn_by_class(counts: Floats, sizes: tuple[int, ...]):
    one, other = (draw(counts, sizes, 2000, rng(5)) for draw in (scores_by_class, scores_by_request))
    apart = (other.mean(1) - one.mean(1)) / np.sqrt((one.var(1) + other.var(1)) / 2000)
    assert (np.abs(apart) < 4).all()
    np.testing.assert_allclose(other.std(1), one.std(1), rtol=0.15)


@given(st.integers(1, 30), st.integers(1, 40), st.integers(0, 2**32))
def test_scores_of_requests_are_those_of_their_counts(size: int, classes: int, seed: int):
    drawn, expected = rng(seed).integers(classes, size=(7, size)), rng(seed).integers(9, size=classes).astype(float)
    counts = np.array([np.bincount(row, minlength=classes) for row in drawn])
    np.testing.assert_allclose(scores_of(drawn, expected), mix_score(counts, expected), rtol=1e-9, atol=1e-9)


@given(st.floats(0.5, 1e6), st.floats(1e-4, 300.0))
def test_negative_binomial_counts_have_their_mean_and_variance(shape: float, scale: float):
    counts, probabilities = negative_binomial(shape, min(scale, 1e6 / shape))
    mean = shape * min(scale, 1e6 / shape)
    assert probabilities.sum() == pytest.approx(1)
    assert probabilities @ counts == pytest.approx(mean, rel=1e-6)
    assert probabilities @ np.square(counts - mean) == pytest.approx(mean * (1 + mean / shape), rel=1e-6)


def test_ten_thousand_classes_take_little_memory():
    counts = some(10_000, 40_000, 1.0)
    tracemalloc.start()
    try:
        assert np.isfinite(calibrate_mix(counts, draws=1000)).all()
        assert tracemalloc.get_traced_memory()[1] < 60e6
    finally:
        tracemalloc.stop()
