"""A long queue takes up a burst; a short one stands while requests are refused."""

import pytest

from service.batching.queue_limit import CALM, LONG, STANDING, QueueLimit
from tests.service.batching.scenarios import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue_limit(clock: Clock) -> QueueLimit:
    """Of a batcher that runs 10,000 tokens a second."""
    queue_limit = QueueLimit(1000, 50, clock)
    for _ in range(100):
        queue_limit.drain(100, 0.01)
    assert queue_limit.drain_rate == pytest.approx(10_000)
    return queue_limit


def test_drain_rate_follows_the_newest_batches(queue_limit: QueueLimit):
    for _ in range(50):
        queue_limit.drain(100, 0.02)
    assert queue_limit.drain_rate == pytest.approx(5000, rel=0.01)


def test_before_the_first_batch_a_measured_time_tells_how_much_may_wait(clock: Clock):
    assert QueueLimit(16_384, 64, clock, token_seconds=0.002).tokens == pytest.approx(LONG / 0.002)
    assert QueueLimit(16_384, 64, clock, token_seconds=0.1).tokens == 64
    assert QueueLimit(16_384, 64, clock, token_seconds=1e-6).tokens == QueueLimit(16_384, 64, clock).tokens == 16_384


def test_everything_that_is_allowed_may_wait_while_nobody_is_refused(queue_limit: QueueLimit):
    assert queue_limit.tokens == 1000
    assert queue_limit.admits(1, 999)
    assert not queue_limit.admits(2, 999)


def test_little_may_wait_from_the_first_refusal_on_until_it_is_calm(queue_limit: QueueLimit, clock: Clock):
    queue_limit.reject()
    assert queue_limit.tokens == pytest.approx(STANDING * 10_000)
    clock.wait(0.9 * CALM)
    queue_limit.drain(100, 0.01)
    queue_limit.reject()
    clock.wait(0.9 * CALM)
    queue_limit.drain(100, 0.01)
    assert queue_limit.tokens < 1000, "refused again meanwhile"
    clock.wait(0.9 * CALM)
    queue_limit.drain(100, 0.01)
    assert queue_limit.tokens < 1000, "refused before the batch"
    clock.wait(0.2 * CALM)
    queue_limit.drain(100, 0.01)
    assert queue_limit.tokens == 1000


def test_while_some_are_refused_large_requests_have_the_same_chance_as_small_ones(queue_limit: QueueLimit):
    queue_limit.reject()
    assert [queue_limit.admits(tokens, 99) for tokens in (1, 500)] == [True, True]
    assert [queue_limit.admits(tokens, 101) for tokens in (1, 500)] == [False, False]
    assert not queue_limit.admits(950, 99), "never more than is allowed"


def test_any_request_is_taken_where_nothing_waits(queue_limit: QueueLimit):
    queue_limit.reject()
    assert queue_limit.admits(5000, 0)


def test_nothing_is_known_before_the_first_batch(clock: Clock):
    queue_limit = QueueLimit(1000, 50, clock)
    queue_limit.reject()
    assert (queue_limit.tokens, queue_limit.drain_rate) == (1000, 0.0)


def test_a_slow_model_has_room_for_what_runs_within_a_second(clock: Clock):
    queue_limit = QueueLimit(1000, 50, clock)
    queue_limit.drain(300, 1.5)
    assert queue_limit.tokens == pytest.approx(LONG * 200)


def test_a_slow_model_may_have_less_room_than_one_request(clock: Clock):
    queue_limit = QueueLimit(1000, 8, clock)
    queue_limit.drain(10, 1.0)
    queue_limit.reject()
    assert queue_limit.admits(50, 0)
    assert not queue_limit.admits(50, 10)


def test_a_batch_has_room_however_much_is_refused(clock: Clock):
    """Refusals take time and so make the drain rate fall: smaller batches would make it fall more."""
    queue_limit = QueueLimit(1000, 50, clock)
    for _ in range(100):
        queue_limit.reject()
        queue_limit.drain(min(50, int(queue_limit.tokens)), 0.05 + 0.05)
    assert STANDING * queue_limit.drain_rate < 50
    assert queue_limit.drain_rate == pytest.approx(500)
    assert queue_limit.tokens == 50
