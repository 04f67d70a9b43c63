"""A window over the rings equals one pass over the traffic of the buckets that it covers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.manifest import NormLayer
from runtime.statistics.deep import DeepState
from runtime.statistics.moments import Moments
from runtime.statistics.state import NormState, SparseState, merge_sparse
from runtime.statistics.windows import Bucket, Ring, Span, Windows, began
from tests.helpers import assert_same_moments

LAYERS = [NormLayer(name="norm", kind="layer_norm", placement="post", d_model=4, eps=1e-5)]
START = 1_700_000_000.0


def one(number: int) -> NormState:
    """One request of a few tokens, different for every number."""
    rng = np.random.default_rng(number)
    return NormState.of(1, rng.normal(1, 0.5, (number % 4 + 1, 2)).astype(np.float32).astype(np.float64))


def make_ring(seconds: int, size: int) -> Ring[NormState, SparseState]:
    return Ring(seconds, size, SparseState.compress, SparseState.expand)


def window(ring: Ring[NormState, SparseState], span: Span) -> tuple[Span, NormState]:
    covered, closed, filling = ring.window(span)
    state = merge_sparse(closed, LAYERS)
    return covered, state.merge(filling) if filling else state


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
    ring, arrivals = make_ring(10, 100), [START + second for second in sorted(seconds)]
    for number, when in enumerate(arrivals):
        ring.add(one(number), when)
    span, found = window(ring, Span(START + begin, START + begin + length))
    assert span.start <= START + begin and span.end >= START + begin + length
    assert span.start % 10 == span.end % 10 == 0
    inside = [one(number) for number, when in enumerate(arrivals) if span.start <= when < span.end]
    assert_same(found, one_pass(inside))


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 200), st.booleans()), min_size=1, max_size=30))
def test_ring_that_takes_anothers_buckets_equals_one_ring(arrivals: list[tuple[int, bool]]) -> None:
    """Whichever of both is the newer one, and where their buckets overlap."""
    whole, (mine, other) = make_ring(10, 8), (make_ring(10, 8) for _ in range(2))
    for number, (second, to_other) in enumerate(sorted(arrivals)):
        for ring in (whole, other if to_other else mine):
            ring.add(one(number), START + second)
    if theirs := other.buckets(0):
        mine.resume(theirs)
    now = START + max(second for second, _ in arrivals)
    for begin in range(0, 200, 10):
        span = Span(max(START + begin, whole.oldest(now)), now + 10)
        assert_same(window(mine, span)[1], window(whole, span)[1])


def test_ring_forgets_and_stays_bounded() -> None:
    ring = make_ring(10, 6)
    for number in range(100):
        ring.add(one(number), START + 10 * number)
    now = START + 990
    assert len(ring.closed) < 6
    assert ring.oldest(now) == START + 940
    _, found = window(ring, Span(0, now + 10))
    assert_same(found, one_pass([one(number) for number in range(94, 100)]))


def test_time_that_goes_backwards_loses_nothing() -> None:
    ring = make_ring(10, 6)
    for number, when in enumerate((START, START + 30, START + 5)):
        ring.add(one(number), when)
    assert window(ring, Span(START, START + 60))[1].requests == 3


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


@pytest.mark.parametrize(
    ("requests", "ago"), [(0, 0), (1, 300), (5, 300), (6, 600), (100, 6000), (1000, 60_000), (10**6, 86_400)]
)
def test_the_last_requests_are_dated_to_their_bucket(requests: int, ago: int) -> None:
    """One request a minute: five in a bucket."""
    windows, first = Windows(LAYERS), START // 300 * 300
    for minute in range(30 * 60):
        windows.add(one(minute), first + 60 * minute)
    now = first + 30 * 3600
    assert began(windows.requests(now), requests, now) == pytest.approx(now - ago, abs=300 if ago == 86_400 else 0)
    assert began(Windows(LAYERS).requests(now), 1000, now) == now


def test_empty_window_has_an_empty_state() -> None:
    _, found = Windows(LAYERS).window(Span(START, START + 300), START + 300)
    assert (found.requests, found.tokens, found.summary(0)) == (0, 0, None)


def look(requests: int) -> DeepState:
    one = Moments.of(np.full((requests, 4), 2.0), np.ones((requests, 4), dtype=bool))
    return DeepState(requests, requests, one, np.full((2, 4), float(requests)), Moments.empty(0))


def test_deep_windows_forget_and_say_what_was_seen() -> None:
    windows = Windows(LAYERS)
    for hour in range(48):
        windows.add_deep(look(1), START + 3600 * hour)
    now = START + 3600 * 47
    assert windows.deep_window(Span(now - 60, now + 1), now).requests == 1
    assert windows.deep_window(Span(now - 86400, now + 1), now).requests == 25
    assert sum(len(ring.closed) for ring in windows.deep_rings) < 13 + 25


def test_windows_go_on_from_what_was_kept() -> None:
    before, after, whole = Windows(LAYERS), Windows(LAYERS), Windows(LAYERS)
    for number in range(90):
        for windows in (before, whole):
            windows.add(one(number), START + 7 * number)
            windows.add_deep(look(2), START + 7 * number)
    kept = {(ring, number): content for ring, number, content in before.buckets({})}
    newest = {ring: max(number for name, number in kept if name == ring) for ring, _ in kept}
    for windows in (before, whole):
        windows.add(one(90), START + 631)
    kept |= {(ring, number): content for ring, number, content in before.buckets(newest)}  # only what changed since
    after.resume(
        [Bucket(*key, content) for key, content in sorted(kept.items(), key=lambda item: item[0])], START + 632
    )
    for windows in (after, whole):
        windows.add(one(91), START + 632)
    now = START + 640
    for seconds in (60, 300, 3600):
        span = Span(now - seconds, now)
        assert_same(after.window(span, now)[1], whole.window(span, now)[1])
        assert after.deep_window(span, now).requests == whole.deep_window(span, now).requests


@pytest.mark.parametrize("ahead", [3600.0, 1e9])
def test_buckets_of_the_future_are_not_gone_on_with(ahead: float) -> None:
    """Kept by a start whose clock was wrong: what comes now would be counted there, and be in no window."""
    wrong, right, mended = Windows(LAYERS), Windows(LAYERS), Windows(LAYERS)
    for windows, when in ((wrong, START + ahead), (right, START - 30.0)):
        windows.add(one(1), when)
        windows.add_deep(look(1), when)
    for kept in (wrong, right):
        mended.resume(kept.buckets({}), START)
    mended.add(one(2), START)
    mended.add_deep(look(2), START)
    span = Span(START - 3600.0, START + 1.0)
    assert mended.window(span, START + 1.0)[1].requests == 2
    assert mended.deep_window(span, START + 1.0).requests == 3
    assert all(number * mended.named[ring].seconds <= START for ring, number in mended.numbers({}))
    nothing = Windows(LAYERS)
    nothing.resume(wrong.buckets({}), START)
    assert nothing.buckets({}) == []


def test_hour_that_is_asked_for_in_one_bucket_and_answered_in_the_next_is_no_longer() -> None:
    """Neither does it lack what came first, if something comes in between."""
    windows, at = Windows(LAYERS), START // 3600 * 3600 + 3599.99
    for before in range(7200, -1, -100):
        windows.add(one(1), at - before)
        windows.add_deep(look(1), at - before)
    span = Span(at - 3600, at)
    expected = windows.window(span, at), windows.history(span, at), windows.deep_window(span, at).requests
    windows.add(one(1), at + 0.02)
    windows.add_deep(look(1), at + 0.02)
    covered, state = windows.window(span, at + 0.02)
    assert (covered, state.requests) == (expected[0][0], expected[0][1].requests)
    assert len(windows.history(span, at + 0.02)[1]) == len(expected[1][1])
    assert windows.deep_window(span, at + 0.02).requests == expected[2]
