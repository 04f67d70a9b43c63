"""When batches run: at once when idle, after what lies in the sockets, and in time under an overload."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.batching.batcher import Batcher
from service.batching.executors import (
    BRIEF,
    FILLING,
    LINGER,
    READING,
    REJOIN_MOST,
    STILL_ROUNDS,
    LoopExecutor,
    ThreadExecutor,
)
from tests.service.batching.scenarios import Clock, FakeRun, both, play, rows, submit, submit_all


def test_an_idle_batcher_waits_for_no_timer_and_only_a_few_rounds_of_the_loop():
    async def scenario(batcher: Batcher, run: FakeRun) -> None:
        loop = asyncio.get_running_loop()
        loop.call_at = loop.call_later = None  # a timer would fail
        (task,) = await submit_all(batcher, [rows([1])])
        for _ in range(STILL_ROUNDS):
            assert run.batches == []
            await asyncio.sleep(0)
        assert run.batches == [[[1]]]
        del loop.call_at, loop.call_later
        await task

    play(scenario)


def test_the_loop_reads_on_while_rounds_bring_more():
    async def scenario(batcher: Batcher, run: FakeRun) -> None:
        async def come(late: int) -> None:
            for _ in range(late):
                await asyncio.sleep(0)
            await submit(batcher, rows([late]))

        await asyncio.gather(*map(come, range(10)))
        assert run.batches == [[[number] for number in range(10)]]

    play(scenario, clock=Clock())


@pytest.mark.parametrize(
    ("pause", "tokens"), [(0.6 * READING, 2), (0.6 * (READING + FILLING), 10)], ids=["full", "not full"]
)
def test_a_batch_is_not_kept_from_its_turn_by_requests_that_never_cease(pause: float, tokens: int):
    """Neither over rounds of the loop, nor within one in which many come; one that is not full waits for longer."""
    clock = Clock()

    async def scenario(batcher: Batcher, run: FakeRun) -> None:
        (first,) = await submit_all(batcher, [rows([1])])
        later = []
        for _ in range(3):
            clock.wait(pause)
            later.append(batcher.admit(rows([2]), asyncio.get_running_loop().create_future()))
        assert run.batches == [[[1], [2]]], "the third came when the batch was overdue"
        await first
        await asyncio.gather(*(request.answer for request in later))

    play(scenario, clock=clock, tokens=tokens)


def test_a_batch_that_is_overdue_is_filled_while_more_comes():
    clock = Clock()

    async def scenario(batcher: Batcher, run: FakeRun) -> None:
        tasks = await submit_all(batcher, [rows([1])])
        clock.wait(2 * READING)
        tasks += await submit_all(batcher, [rows([2]), rows([3])])
        assert run.batches == []
        await asyncio.gather(*tasks)
        assert run.batches == [[[1], [2], [3]]]

    play(scenario, clock=clock, tokens=10)


def test_a_batch_is_not_kept_from_its_turn_by_refusals():
    clock = Clock()

    async def scenario(batcher: Batcher, run: FakeRun) -> None:
        (first,) = await submit_all(batcher, [rows([1] * 50)])
        clock.wait(20 * READING)
        assert batcher.full
        batcher.reject()
        assert run.batches == [[[1] * 50]]
        assert batcher.queue_limit.tokens < 64, "it knows that one was refused"
        await first

    play(scenario, clock=clock, queue=64, tokens=50)


@pytest.mark.parametrize(("pause", "polls"), [(0.5 * LINGER, True), (2 * LINGER, False)], ids=["brisk", "slow"])
def test_the_loop_polls_before_it_sleeps_where_the_next_request_came_as_soon(pause: float, polls: bool):
    clock = Clock()

    async def scenario(batcher: Batcher, _: FakeRun) -> None:
        assert isinstance(executor := batcher.executor, LoopExecutor)
        await submit(batcher, rows([1]))
        assert not executor.polling
        clock.wait(pause)
        await submit(batcher, rows([1]))
        for _ in range(10):
            assert executor.polling is polls
            await asyncio.sleep(0)
        clock.wait(2 * LINGER)
        await asyncio.sleep(0)
        assert not executor.polling, "for that long only"

    play(scenario, clock=clock)


def test_a_brief_batch_of_a_slow_model_runs_in_the_event_loop():
    """Handing it over would cost more than others wait for."""
    threads: list[threading.Thread] = []
    run = FakeRun(during=lambda: threads.append(threading.current_thread()))

    async def main() -> None:
        with ThreadPoolExecutor(1) as shared:
            executor = ThreadExecutor(shared)
            batcher = Batcher(
                run, max_batch_tokens=100, max_queue_tokens=1000, executor=executor, token_seconds=BRIEF / 10
            )
            for tokens in (5, 20, 5):
                await submit(batcher, rows([1] * tokens))
            await batcher.close()

    asyncio.run(main())
    own = threading.current_thread()
    assert [thread is own for thread in threads] == [True, False, True]


async def ask_again(number: int, batcher: Batcher, run: FakeRun) -> None:
    """Three times; all but the first two come while a batch of these runs."""
    while number > 2 and not run.batches:
        await pause(0)
    for _ in range(3):
        await submit(batcher, rows([number]))


pause = asyncio.sleep


@pytest.mark.parametrize(("clients", "tokens", "waits"), [(3, 100, True), (6, 2, False)])
def test_those_who_were_answered_may_come_again_before_the_next_batch(
    clients: int, tokens: int, waits: bool, monkeypatch: pytest.MonkeyPatch
):
    """Else parts of the clients take turns; a batch that is full waits for nobody."""
    clock, waited, own = Clock(), list[float](), list[asyncio.AbstractEventLoop]()

    async def sleep(seconds: float) -> None:
        if asyncio.get_running_loop() not in own:  # of a server that another test has left in a thread
            await pause(seconds)
            return
        waited.append(seconds)
        for _ in range(20):
            await pause(0)
        clock.wait(seconds)

    async def scenario(batcher: Batcher, run: FakeRun) -> None:
        own.append(asyncio.get_running_loop())
        await asyncio.gather(*(ask_again(number, batcher, run) for number in range(1, clients + 1)))

    monkeypatch.setattr(asyncio, "sleep", sleep)
    run = FakeRun(during=lambda: (time.sleep(0.02), clock.wait(0.1)))
    play(scenario, run, offload=True, clock=clock, tokens=tokens)
    if waits:
        assert [len(batch) for batch in run.batches] == [2, 3, 3, 1]
        assert waited == [pytest.approx(REJOIN_MOST)] * len(waited) != []
    else:
        assert {len(batch) for batch in run.batches[:6]} == {2} and waited == []


def test_one_client_waits_for_nobody():
    clock = Clock()

    async def scenario(batcher: Batcher, _: FakeRun) -> None:
        for number in range(3):
            await submit(batcher, rows([number]))
            assert isinstance(batcher.executor, ThreadExecutor) and batcher.executor.rejoin <= clock.now

    play(scenario, FakeRun(during=lambda: clock.wait(0.1)), offload=True, clock=clock)


@both
def test_a_receiver_that_fails_does_not_stop_the_others(offload: bool):
    class Broken(asyncio.Future):  # type: ignore[type-arg]
        def set_result(self, _: object) -> None:
            raise ValueError("broken")

    async def scenario(batcher: Batcher, run: FakeRun) -> None:
        batcher.admit(rows([1]), Broken())
        assert await submit(batcher, rows([2]))
        assert await submit(batcher, rows([3]))
        assert run.counted == 3

    play(scenario, offload=offload)
