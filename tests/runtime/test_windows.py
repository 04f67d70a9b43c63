"""A window over the rings equals one pass over the traffic of the buckets that it covers."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.manifest import NormLayer
from runtime.statistics import NormState
from runtime.windows import Ring, Span, Windows
from tests.helpers import assert_same_moments

LAYERS = [NormLayer(name="norm", kind="layer_norm", placement="post", d_model=4, eps=1e-5)]
START = 1_700_000_000.0


def one(number: int) -> NormState:
    """One request of a few tokens, different for every number."""
    rng = np.random.default_rng(number)
    return NormState.of(1, rng.normal(1, 0.5, (number % 4 + 1, 2)).astype(np.float32).astype(np.float64))


def one_pass(states: list[NormState]) -> NormState:
    total = NormState.empty(LAYERS)
    for state in states:
        total = total.merge(state)
    return total


def assert_same(found: NormState, expected: NormState) -> None:
    assert (found.requests, found.tokens) == (expected.requests, expected.tokens)
    np.testing.assert_array_equal(found.histograms, expected.histograms)
    assert_same_moments(found.moments, expected.moments, 1e-12)


@settings(max_examples=60)
@given(st.lists(st.integers(0, 120), min_size=1, max_size=40), st.integers(0, 120), st.integers(1, 120))
def test_window_equals_one_pass_over_its_buckets(seconds: list[int], begin: int, length: int) -> None:
    ring, arrivals = Ring(10, 100), [START + second for second in sorted(seconds)]
    for number, when in enumerate(arrivals):
        ring.add(one(number), when)
    span, found = ring.window(Span(START + begin, START + begin + length), LAYERS)
    assert span.start <= START + begin and span.end >= START + begin + length
    assert span.start % 10 == span.end % 10 == 0
    inside = [one(number) for number, when in enumerate(arrivals) if span.start <= when < span.end]
    assert_same(found, one_pass(inside))


def test_ring_forgets_and_stays_bounded() -> None:
    ring = Ring(10, 6)
    for number in range(100):
        ring.add(one(number), START + 10 * number)
    now = START + 990
    assert len(ring.sealed) < 6
    assert ring.oldest(now) == START + 940
    _, found = ring.window(Span(0, now + 10), LAYERS)
    assert_same(found, one_pass([one(number) for number in range(94, 100)]))


def test_time_that_goes_backwards_loses_nothing() -> None:
    ring = Ring(10, 6)
    for number, when in enumerate((START, START + 30, START + 5)):
        ring.add(one(number), when)
    assert ring.window(Span(START, START + 60), LAYERS)[1].requests == 3


def test_recent_windows_are_fine_and_old_ones_coarse() -> None:
    windows = Windows(LAYERS)
    for minute in range(24 * 60):
        windows.add(one(minute), START + 60 * minute)
    now = START + 86400
    recent, found = windows.window(Span(now - 300, now), now)
    assert (recent.end - recent.start, found.requests) == (300, 5)
    day, found = windows.window(Span(now - 86400, now), now)
    assert day.start % 300 == 0 and found.requests == 24 * 60
    beyond, found = windows.window(Span(0, now), now)
    assert beyond.start >= now - 86400 - 300 and found.requests == 24 * 60


def test_empty_window_has_an_empty_state() -> None:
    _, found = Windows(LAYERS).window(Span(START, START + 300), START + 300)
    assert (found.requests, found.tokens, found.summary(0)) == (0, 0, None)
