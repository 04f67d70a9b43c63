import asyncio
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import DeadlineExceeded
from service.batching.queue import MAX_AGE, Request, RequestQueue

LONG = MAX_AGE * 2
MakeRequest = Callable[..., Request]


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def queue() -> RequestQueue:
    return RequestQueue()


@pytest.fixture
def add(loop: asyncio.AbstractEventLoop, queue: RequestQueue) -> MakeRequest:
    """Adds a request with rows of these lengths."""

    def add(*lengths: int, submitted: float = 0.0, **more: float) -> Request:
        return add_to(queue, loop, lengths, submitted, **more)

    return add


def add_to(
    queue: RequestQueue,
    loop: asyncio.AbstractEventLoop,
    lengths: tuple[int, ...],
    submitted: float = 0.0,
    **more: float,
) -> Request:
    request = Request([np.zeros(length, dtype=np.int64) for length in lengths], loop.create_future(), submitted, **more)
    queue.add(request, sum(lengths))
    return request


def take(queue: RequestQueue, max_tokens: int, now: float = 0.0) -> list[tuple[Request, range]]:
    """The next batch, as each request's row numbers in it, and as if it had run."""
    batch = [(request, range(request.start, request.stop)) for request in queue.fill(max_tokens, now)]
    for request, _ in batch:
        request.start = request.stop
    return batch


def test_nothing_waits_at_first(queue: RequestQueue):
    assert (queue.fill(100, 0.0), queue.tokens, queue.requests) == ([], 0, 0)


def test_requests_of_one_row_are_served_in_the_order_they_came(queue: RequestQueue, add: MakeRequest):
    requests = [add(3) for _ in range(7)]
    served = [request for _ in range(3) for request, _ in take(queue, 9)]
    assert served == requests


def test_every_request_gets_one_row_in_turn(queue: RequestQueue, add: MakeRequest):
    large, small, middle = add(*[1] * 9), add(1), add(1, 1)
    assert take(queue, 4) == [(large, range(2)), (small, range(1)), (middle, range(1))]
    assert take(queue, 4) == [(middle, range(1, 2)), (large, range(2, 5))]
    assert take(queue, 4) == [(large, range(5, 9))]
    assert take(queue, 4) == []


def test_a_large_request_leaves_every_batch_to_the_small_ones_that_come(queue: RequestQueue, add: MakeRequest):
    large = add(*[1] * 100)
    for _ in range(10):
        small = [add(1) for _ in range(3)]
        served = dict(take(queue, 8))
        assert [served[request] for request in small] == [range(1)] * 3
        assert len(served[large]) == 5


@pytest.mark.parametrize(
    ("max_tokens", "batches"),
    [
        (5, [[2, 3], [6], [1, 4], [1]]),
        (6, [[2, 3], [6], [1, 4, 1]]),
        (12, [[2, 3, 6, 1], [4, 1]]),
        (1, [[2], [3], [6], [1], [4], [1]]),
    ],
)
def test_a_batch_stays_within_its_tokens_unless_a_row_is_longer(
    queue: RequestQueue, add: MakeRequest, max_tokens: int, batches: list[list[int]]
):
    for length in (2, 3, 6, 1, 4, 1):
        add(length)
    lengths = [[len(request.sequences[0]) for request, _ in take(queue, max_tokens)] for _ in batches]
    assert lengths == batches
    assert (queue.tokens, queue.requests) == (0, 0)


def test_tokens_and_requests_that_wait_are_counted(queue: RequestQueue, add: MakeRequest):
    add(5), add(2, 3, 4)
    assert (queue.tokens, queue.requests) == (14, 2)
    take(queue, 7)
    assert (queue.tokens, queue.requests) == (7, 1)
    take(queue, 7)
    assert (queue.tokens, queue.requests) == (0, 0)


def test_a_request_past_its_age_goes_first_in_half_of_each_batch(queue: RequestQueue, add: MakeRequest):
    large = add(*[1] * 20)
    take(queue, 1)
    small = [add(1, submitted=LONG) for _ in range(20)]
    first, second = take(queue, 8, now=LONG), take(queue, 8, now=LONG)
    assert first == [(large, range(1, 6)), *[(request, range(1)) for request in small[:3]]], "half, and its own turn"
    assert second == [(large, range(6, 10)), *[(request, range(1)) for request in small[3:7]]]


def test_a_request_within_its_age_waits_for_its_turn(queue: RequestQueue, add: MakeRequest):
    add(*[1] * 20)
    take(queue, 1)
    small = [add(1) for _ in range(20)]
    assert [request for request, _ in take(queue, 8, now=MAX_AGE * 0.99)][1:] == small[:7]


def test_of_two_requests_past_their_age_the_older_goes_first(queue: RequestQueue, add: MakeRequest):
    first, second = add(*[1] * 7), add(*[1] * 7)
    take(queue, 2)
    small = [add(1, submitted=LONG) for _ in range(9)]
    in_turn = [(second, range(1, 2)), *[(request, range(1)) for request in small[:2]]]
    assert take(queue, 8, now=LONG) == [(first, range(1, 6)), *in_turn]


def test_no_flow_of_small_requests_starves_a_large_one(queue: RequestQueue, add: MakeRequest):
    """Small requests fill every batch twice over; the large one is through a bounded time after its age."""
    large, now = add(*[1] * 100), 0.0
    while large.waits:
        for _ in range(16):
            add(1, submitted=now)
        take(queue, 8, now)
        now += MAX_AGE / 10
        assert now < MAX_AGE + (100 / 4 + 2) * MAX_AGE / 10
    assert now > MAX_AGE


def test_a_row_longer_than_a_batch_goes_first_past_its_age_too(queue: RequestQueue, add: MakeRequest):
    large, *_ = add(1, 50), add(1, submitted=LONG), add(1, submitted=LONG)
    take(queue, 1)
    assert take(queue, 8, now=LONG) == [(large, range(1, 2))]


@pytest.mark.parametrize("waited", [0.0, LONG])
def test_abandoned_requests_are_dropped(queue: RequestQueue, add: MakeRequest, waited: float):
    first, second, third = add(1, 1), add(1, 1), add(1)
    take(queue, 2)
    first.answer.cancel()
    assert dict(take(queue, 10, waited)) == {second: range(1, 2), third: range(1)}
    assert (queue.tokens, queue.requests) == (0, 0)


@pytest.mark.parametrize("waited", [1.0, LONG + 1])
def test_expired_requests_are_answered_and_dropped(queue: RequestQueue, add: MakeRequest, waited: float):
    first, second = add(1, 1, deadline=waited), add(1, submitted=waited)
    take(queue, 1)
    assert take(queue, 10, waited) == [(second, range(1))]
    assert isinstance(first.answer.exception(), DeadlineExceeded)
    assert (queue.tokens, queue.requests) == (0, 0)


def test_an_expired_request_is_told_how_long_it_had(queue: RequestQueue, add: MakeRequest):
    request = add(1, submitted=5.0, deadline=5.25)
    queue.expire(request)
    assert "within 0.25 s" in str(request.answer.exception())


def test_an_answered_request_does_not_expire(queue: RequestQueue, add: MakeRequest):
    request = add(1)
    request.answer.set_result(None)
    queue.expire(request)
    assert request.answer.result() is None


def test_dropping_forgets_what_waits_once(queue: RequestQueue, add: MakeRequest):
    request, other = add(2, 3, 4), add(7)
    queue.fill(2, 0.0)
    for _ in range(2):
        request.answer.cancel()
        queue.drop(request)
        assert (queue.tokens, queue.requests) == (7, 1)
    assert [len(row) for row in request.sequences] == [2], "the row in the batch is kept"
    assert take(queue, 100)[0][0] is other


requests = st.lists(st.integers(1, 9), min_size=1, max_size=12).map(tuple)
steps = st.lists(st.one_of(requests, st.integers(1, 30), st.floats(0, MAX_AGE), st.none()), max_size=40)


@given(steps)
def test_every_row_is_taken_once_and_in_order_whatever_happens(steps: list[object]):
    """A tuple is a request, an integer a batch of so many tokens, a float the time that passes, None a cancellation."""
    queue, loop, now = RequestQueue(), asyncio.new_event_loop(), 0.0
    added: list[Request] = []
    taken: dict[Request, list[int]] = {}
    for step in [*steps, *[30] * 500]:
        match step:
            case tuple():
                added.append(add_to(queue, loop, step, now))
            case float():
                now += step
            case None if added:
                added[-1].answer.cancel()
                queue.drop(added[-1])
            case int():
                batch = take(queue, step, now)
                rows = [(request, row) for request, rows in batch for row in rows]
                tokens = sum(len(request.sequences[row]) for request, row in rows)
                assert tokens <= step or len(rows) == 1
                for request, row in rows:
                    taken.setdefault(request, []).append(row)
        waiting = [request for request in added if request.waits]
        assert queue.requests == len(waiting)
        assert queue.tokens == sum(len(row) for request in waiting for row in request.sequences[request.stop :])
    assert (queue.tokens, queue.requests) == (0, 0)
    for request in added:
        assert taken.get(request, []) == list(range(len(request.sequences)))
    loop.close()
