"""The batcher: deadlines, clients that leave, and requests that fail."""

import asyncio
import time

import pytest

from runtime.errors import DeadlineExceeded
from service.batching.batcher import Batcher
from tests.service.batching.scenarios import (
    POISON,
    Clock,
    FakeRun,
    Held,
    both,
    play,
    play_held,
    rows,
    submit,
    submit_all,
    sums,
)

# Deadlines


def test_an_expired_request_is_dropped_before_it_runs():
    async def scenario(batcher: Batcher, run: Held) -> None:
        late, patient = (
            await submit_all(batcher, [rows([2], [3])], timeout=0.01),
            await submit_all(batcher, [rows([4])]),
        )
        with pytest.raises(DeadlineExceeded, match=r"within 0\.01 s"):
            await late[0]
        assert (batcher.queue.tokens, batcher.queue.requests) == (1, 1)
        run.go.set()
        await patient[0]
        assert run.batches == [[[1]], [[4]]]

    assert play_held(scenario).counters.rows == 2


def test_a_request_expires_while_its_batch_runs_in_a_thread():
    async def scenario(batcher: Batcher, run: Held) -> None:
        run.go.set()
        await submit(batcher, rows([2]))
        run.go.clear(), run.started.clear()
        late = asyncio.create_task(submit(batcher, rows([3]), timeout=0.01))
        with pytest.raises(DeadlineExceeded):
            await late
        assert not run.go.is_set()
        run.go.set()
        assert sums(await submit(batcher, rows([4]))) == [4]

    play_held(scenario)


@both
def test_a_request_out_of_time_from_the_start_never_runs(offload: bool):
    async def scenario(batcher: Batcher, run: FakeRun) -> None:
        with pytest.raises(DeadlineExceeded):
            await submit(batcher, rows([1]), timeout=0)
        assert run.batches == []

    play(scenario, offload=offload)


def test_the_rows_of_an_expired_request_that_have_not_run_never_do():
    clock = Clock()

    async def scenario(batcher: Batcher, run: FakeRun) -> None:
        with pytest.raises(DeadlineExceeded):
            await submit(batcher, rows(*[[1]] * 10), timeout=2.5)
        assert len(run.batches) == 3

    play(scenario, FakeRun(during=lambda: clock.wait(1.0)), tokens=1, clock=clock)


def test_an_answer_that_is_ready_is_given_even_if_its_time_was_up_meanwhile():
    async def scenario(batcher: Batcher, _: FakeRun) -> None:
        assert sums(await submit(batcher, rows([3]), timeout=0.01)) == [3]

    play(scenario, FakeRun(during=lambda: time.sleep(0.03)))


def test_only_requests_with_a_timeout_have_a_timer_and_it_goes_with_them():
    async def scenario(batcher: Batcher, _: FakeRun) -> None:
        loop, timers = asyncio.get_running_loop(), []
        call_later = loop.call_later
        loop.call_later = lambda *args: timers.append(call_later(*args)) or timers[-1]
        await submit(batcher, rows([1]))
        assert timers == []
        await submit(batcher, rows([1]), timeout=60)
        assert [timer.cancelled() for timer in timers] == [True]

    play(scenario)


# Disconnects


def test_abandoned_requests_are_dropped_before_they_run():
    async def scenario(batcher: Batcher, run: Held) -> None:
        tasks = await submit_all(batcher, [rows([2]), rows([3, 3], [3]), rows([4])])
        tasks[1].cancel()
        await asyncio.sleep(0)
        assert (batcher.queue.tokens, batcher.queue.requests) == (2, 2), "they do not wait any more"
        run.go.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(answers[1], asyncio.CancelledError)
        assert run.batches[1:] == [[[2], [4]]]

    assert play_held(scenario).counters.rows == 3


@both
def test_a_queue_of_abandoned_requests_runs_nothing(offload: bool):
    async def scenario(batcher: Batcher, run: FakeRun) -> None:
        (task,) = await submit_all(batcher, [rows([2])])
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert sums(await submit(batcher, rows([3]))) == [3]
        assert run.batches == [[[3]]]

    play(scenario, offload=offload)


def test_the_rows_of_an_abandoned_request_that_have_not_run_never_do():
    async def scenario(batcher: Batcher, run: Held) -> None:
        run.go.set()
        (task,) = await submit_all(batcher, [rows(*[[2]] * 50)])
        run.go.clear(), run.started.clear()
        await asyncio.to_thread(run.started.wait)
        task.cancel()
        run.go.set()
        assert sums(await submit(batcher, rows([3]))) == [3]
        assert run.batches in ([[[1]], [[2]], [[3]]], [[[1]], [[2]], [[2]], [[3]]])

    play_held(scenario, tokens=1)


def test_a_request_abandoned_while_it_runs_harms_nobody():
    async def scenario(batcher: Batcher, run: Held) -> None:
        task, other = await submit_all(batcher, [rows([2]), rows([3])])
        run.started.clear()
        run.go.set()
        await asyncio.to_thread(run.started.wait)
        task.cancel()
        assert sums(await other) == [3]

    play_held(scenario)


# Poison


@both
def test_a_poisoned_request_fails_alone(offload: bool):
    async def scenario(batcher: Batcher, run: FakeRun) -> None:
        tasks = await submit_all(batcher, [rows([2]), rows([3], [POISON]), rows([4])])
        good, bad, also_good = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(bad, ValueError)
        assert (sums(good), sums(also_good)) == ([2], [4])
        assert sums(await submit(batcher, rows([9]))) == [9]
        assert run.counted == 3, "no row is counted twice"

    play(scenario, offload=offload)


@both
def test_every_request_fails_where_every_run_does(offload: bool):
    async def scenario(batcher: Batcher, _: FakeRun) -> None:
        answers = await asyncio.gather(*await submit_all(batcher, [rows([POISON])] * 5), return_exceptions=True)
        assert [type(answer) for answer in answers] == [ValueError] * 5
        assert len({id(answer) for answer in answers}) == 5

    play(scenario, offload=offload)


@both
def test_a_poisoned_request_of_many_rows_runs_no_further(offload: bool):
    async def scenario(batcher: Batcher, run: FakeRun) -> None:
        bad, good = await submit_all(batcher, [rows([1], [POISON], *[[1]] * 100), rows(*[[2]] * 20)])
        with pytest.raises(ValueError):
            await bad
        assert sums(await good) == [2] * 20
        assert run.counted < 40

    play(scenario, tokens=4, offload=offload)
