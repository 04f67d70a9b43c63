"""What the queue does where it knows how long a token runs."""

import asyncio
import math

import pytest

from runtime.errors import DeadlineExceeded
from service.batching.queue import RequestQueue
from tests.service.batching.test_queue import add_to, loop, take

__all__ = ["loop"]  # the fixture


def test_a_row_that_would_run_beyond_its_deadline_is_answered_at_once(loop: asyncio.AbstractEventLoop):
    queue = RequestQueue(token_seconds=0.01)
    late = add_to(queue, loop, (20,), deadline=0.15)
    in_time = add_to(queue, loop, (10,), deadline=0.15)
    assert take(queue, 100) == [(in_time, range(1))]
    assert isinstance(late.answer.exception(), DeadlineExceeded)
    assert (queue.tokens, queue.requests) == (0, 0)


def test_a_batch_holds_no_more_than_runs_until_the_nearest_deadline(loop: asyncio.AbstractEventLoop):
    queue = RequestQueue(token_seconds=0.01)
    first, near, third, fourth = (
        add_to(queue, loop, (10,), deadline=deadline) for deadline in (math.inf, 0.35, math.inf, math.inf)
    )
    assert take(queue, 100) == [(first, range(1)), (near, range(1)), (third, range(1))]
    assert take(queue, 100) == [(fourth, range(1))]


def test_a_deadline_that_others_in_the_batch_have_used_up_holds_up_nobody(loop: asyncio.AbstractEventLoop):
    queue = RequestQueue(token_seconds=0.01)
    requests = [add_to(queue, loop, (10,), deadline=deadline) for deadline in (math.inf, 0.15, math.inf)]
    assert take(queue, 100) == [(request, range(1)) for request in requests]


@pytest.mark.parametrize(
    ("timeout", "said"), [(1e-300, "less than a millisecond"), (0.0005, "less than"), (0.5, "0.5 s")]
)
def test_a_deadline_is_told_even_where_rounding_makes_it_nothing(
    loop: asyncio.AbstractEventLoop, timeout: float, said: str
):
    queue = RequestQueue()
    request = add_to(queue, loop, (10,), deadline=timeout)
    request.submitted, request.deadline = 1000.0, 1000.0 + timeout
    queue.expire(request)
    assert f"within {said}" in str(request.answer.exception())
