"""The batcher: overload, shutdown, and whatever happens."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.errors import DeadlineExceeded, Overloaded, Unavailable
from service.batching.batcher import Batcher
from service.batching.queue import Answer
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

# Overload


@pytest.mark.parametrize("request_rows", [[[3] * 4], [[3]] * 4], ids=["one row", "many rows"])
def test_requests_beyond_the_queues_tokens_are_refused_at_once(request_rows: list[list[int]]):
    async def scenario(batcher: Batcher, run: Held) -> None:
        tasks = await submit_all(batcher, [rows([2] * 7)])
        with pytest.raises(Overloaded, match="7 tokens wait") as caught:
            await submit(batcher, rows(*request_rows))
        assert caught.value.retry_after > 0
        tasks += await submit_all(batcher, [rows([4] * 3)])
        run.go.set()
        await asyncio.gather(*tasks)
        assert sum(sums(await submit(batcher, rows(*request_rows)))) == 12, "taken again when there is room"

    assert play_held(scenario, queue=10).counters.rows == 3 + len(request_rows)


@pytest.mark.parametrize("queue", [10, 60, 1000])
def test_a_small_queue_is_filled_before_it_is_called_full(queue: int):
    async def scenario(batcher: Batcher, run: Held) -> None:
        tasks = await submit_all(batcher, [rows([2] * (queue // 2))])
        assert not batcher.full, "half of it is free"
        tasks += await submit_all(batcher, [rows([2] * (queue - queue // 2 - 1))])
        assert batcher.full
        with pytest.raises(Overloaded, match=f"{queue - 1} tokens wait .* no more than {queue:,} may"):
            await submit(batcher, rows([3, 3]))
        run.go.set()
        await asyncio.gather(*tasks)

    play_held(scenario, queue=queue)


def test_a_request_larger_than_the_queue_is_taken_when_nothing_waits():
    async def scenario(batcher: Batcher, run: Held) -> None:
        large = await submit_all(batcher, [rows(*[[2]] * 30)])
        with pytest.raises(Overloaded):
            await submit(batcher, rows([3]))
        run.go.set()
        assert sums(await large[0]) == [2] * 30
        small = await submit_all(batcher, [rows([3])])
        with pytest.raises(Overloaded):
            await submit(batcher, rows(*[[2]] * 30))
        await small[0]

    play_held(scenario, queue=10)


def test_retry_after_is_what_waits_over_the_rate_at_which_it_drains():
    clock = Clock()

    async def scenario(batcher: Batcher, _: FakeRun) -> None:
        (first,) = await submit_all(batcher, [rows([1] * 60)])
        with pytest.raises(Overloaded) as caught:
            await submit(batcher, rows([1] * 60))
        assert caught.value.retry_after == 1, "nothing is known before the first batch"
        await first
        assert batcher.queue_limit.drain_rate == pytest.approx(60 / 3)
        await submit(batcher, rows([1] * 60))  # nobody was refused meanwhile
        tasks = await submit_all(batcher, [rows([1] * 70)])
        with pytest.raises(Overloaded, match=r"again in 4 s") as caught:
            await submit(batcher, rows([1] * 60))
        assert caught.value.retry_after == pytest.approx(70 / 20)
        await asyncio.gather(*tasks)

    play(scenario, FakeRun(during=lambda: clock.wait(3.0)), queue=100, clock=clock)


def test_the_drain_rate_follows_the_newest_batches():
    clock, seconds = Clock(), 1.0

    async def scenario(batcher: Batcher, _: FakeRun) -> None:
        nonlocal seconds
        await submit(batcher, rows(*[[1] * 10] * 50))
        assert batcher.queue_limit.drain_rate == pytest.approx(10)
        seconds = 4.0
        await submit(batcher, rows(*[[1] * 10] * 50))
        assert batcher.queue_limit.drain_rate == pytest.approx(2.5, rel=0.05)

    play(scenario, FakeRun(during=lambda: clock.wait(seconds)), tokens=10, clock=clock)


def test_the_drain_rate_counts_what_is_done_between_batches():
    clock = Clock()

    async def scenario(batcher: Batcher, run: FakeRun) -> None:
        async def others() -> None:
            seen = 0
            while len(run.batches) < 20:
                clock.wait(1.0 if len(run.batches) > seen else 0.0)
                seen = len(run.batches)
                await asyncio.sleep(0)

        await asyncio.gather(others(), submit(batcher, rows(*[[1] * 10] * 20)))
        assert batcher.queue_limit.drain_rate == pytest.approx(5, rel=0.1)

    play(scenario, FakeRun(during=lambda: clock.wait(1.0)), tokens=10, clock=clock)


def test_what_ran_is_counted():
    async def scenario(batcher: Batcher, _: FakeRun) -> None:
        await submit(batcher, rows([1, 2], [3], [4, 5]))
        await submit(batcher, rows([6]))

    counters = play(scenario, tokens=3).counters
    assert (sum(counters.batch_rows), counters.rows, counters.tokens) == (3, 4, 6)


# Shutdown


def test_close_answers_a_full_queue_and_refuses_what_comes_later():
    async def scenario(batcher: Batcher, run: Held) -> None:
        tasks = await submit_all(batcher, [rows([number], [number]) for number in range(5)])
        with pytest.raises(Overloaded):
            await submit(batcher, rows([9]))
        closing = asyncio.create_task(batcher.close())
        await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="stopping"):
            await submit(batcher, rows([9]))
        assert not closing.done()
        run.go.set()
        await closing
        assert [sums(task.result()) for task in tasks] == [[number, number] for number in range(5)]

    play_held(scenario, queue=10, tokens=3)


def test_close_in_the_loop_answers_a_full_queue():
    async def scenario(batcher: Batcher, _: FakeRun) -> None:
        tasks = await submit_all(batcher, [rows([number], [number]) for number in range(5)])
        await batcher.close()
        assert [sums(await task) for task in tasks] == [[number, number] for number in range(5)]

    play(scenario, queue=10, tokens=3)


def test_a_close_that_is_given_up_loses_no_answer():
    async def scenario(batcher: Batcher, run: Held) -> None:
        tasks = await submit_all(batcher, [rows([2])])
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(batcher.close(), 0.01)
        run.go.set()
        assert sums(await tasks[0]) == [2]

    play_held(scenario)


@both
def test_an_idle_batcher_closes_and_refuses(offload: bool):
    async def scenario(batcher: Batcher, _: FakeRun) -> None:
        await batcher.close()
        with pytest.raises(Unavailable):
            await submit(batcher, rows([1]))

    play(scenario, offload=offload)


# Whatever happens

lengths = st.lists(st.integers(1, 9), min_size=1, max_size=12)
events = st.lists(
    st.one_of(lengths, st.just("poison"), st.just("expire"), st.integers(0, 3), st.floats(0, 1)), max_size=25
)


@both
@given(events, st.integers(1, 40))
@settings(max_examples=40)
def test_every_request_gets_exactly_its_own_rows_whatever_the_others_do(
    offload: bool, events: list[object], tokens: int
):
    """A list is a request, an integer so many rounds of the loop, a float cancels one of the requests before."""

    async def scenario(batcher: Batcher, run: FakeRun) -> None:
        tasks: list[asyncio.Task[Answer]] = []
        expected: list[list[list[int]] | None] = []
        cancelled: set[int] = set()
        for event in events:
            match event:
                case int():
                    for _ in range(event):
                        await asyncio.sleep(0)
                case float() if tasks:
                    cancelled.add(index := int(event * (len(tasks) - 1)))
                    tasks[index].cancel()
                case list():
                    expected.append([[1000 * len(tasks) + row] * length for row, length in enumerate(event)])
                    tasks.append(asyncio.create_task(submit(batcher, rows(*expected[-1]))))
                case str():
                    bad = submit(batcher, rows([1], [POISON]), 0 if event == "expire" else None)
                    expected.append(None)
                    tasks.append(asyncio.create_task(bad))
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        for index, (answer, own) in enumerate(zip(answers, expected, strict=True)):
            if isinstance(answer, asyncio.CancelledError):
                assert index in cancelled
            elif own is None:
                assert isinstance(answer, ValueError | DeadlineExceeded)
            else:
                assert sums(answer) == [sum(row) for row in own]
                assert answer.batch.norm_statistics.ravel().tolist() == [token for row in own for token in row]
        for batch in run.batches:
            assert sum(map(len, batch)) <= tokens or len(batch) == 1

    play(scenario, tokens=tokens, offload=offload, clock=Clock())
