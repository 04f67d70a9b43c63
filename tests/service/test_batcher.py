import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np
import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.batch import EncodedBatch
from runtime.errors import DeadlineExceeded, Overloaded, Unavailable
from runtime.inputs import Tokens
from service.backlog import MAX_AGE, Answer
from service.batcher import ROUNDS, Batcher

POISON = -1
both = pytest.mark.parametrize("offload", [False, True], ids=["in the loop", "in a thread"])
both_loops = pytest.mark.parametrize("run_loop", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])


class FakeRun:
    """Stands in for the engine: every row's logit is the sum of its tokens; rows of runs that succeed are counted."""

    def __init__(self, during: Callable[[], object] = lambda: None) -> None:
        self.during = during  # what happens while a batch runs
        self.batches: list[list[list[int]]] = []
        self.counted = 0

    def __call__(self, sequences: Sequence[Tokens]) -> EncodedBatch:
        self.batches.append([sequence.tolist() for sequence in sequences])
        self.during()
        if any(POISON in sequence for sequence in sequences):
            raise ValueError("poison")
        self.counted += len(sequences)
        tokens = np.concatenate(sequences)[:, None].astype(np.float32)
        lengths = np.array([len(sequence) for sequence in sequences])
        sums = np.array([[sequence.sum()] for sequence in sequences], dtype=np.float32)
        return EncodedBatch(
            sums,
            sums,
            tokens,
            np.empty((0, 2, 1), dtype=np.float32),
            lengths,
            tokens[:, 0],
            [0] * len(sums),
            [1.0] * len(sums),
            [0.0] * len(sums),
        )


class Held(FakeRun):
    """Runs in a thread, where the first run waits until it may `go`."""

    def __init__(self) -> None:
        super().__init__(lambda: (self.started.set(), self.go.wait(10)))
        self.started, self.go = threading.Event(), threading.Event()


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


Scenario = Callable[[Batcher, Any], Awaitable[None]]


def make(run: FakeRun, offload: bool = False, tokens: int = 100, queue: int = 10_000, **more: Any) -> Batcher:
    return Batcher(run, max_batch_tokens=tokens, max_queue_tokens=queue, offload=offload, **more)


def play(scenario: Scenario, run: FakeRun | None = None, **options: Any) -> Batcher:
    """Plays a scenario on a fresh batcher; a request that is never answered fails instead of hanging."""
    run = run or FakeRun()
    batcher = make(run, **options)

    async def main() -> None:
        try:
            async with asyncio.timeout(10):
                await scenario(batcher, run)
        finally:
            await batcher.close()
        assert (batcher.backlog.tokens, batcher.backlog.requests) == (0, 0)

    asyncio.run(main())
    return batcher


def play_held(scenario: Scenario, **options: Any) -> Batcher:
    """Plays a scenario while a first request [1] runs in the thread, until the scenario lets it `go`."""

    async def held(batcher: Batcher, run: Held) -> None:
        first = asyncio.create_task(batcher.submit(rows([1])))
        await asyncio.to_thread(run.started.wait)
        try:
            await scenario(batcher, run)
        finally:
            run.go.set()
        assert (await first).batch.logits.tolist() == [[1]]

    return play(held, Held(), offload=True, **options)


def rows(*sequences: list[int]) -> list[Any]:
    return [np.array(sequence) for sequence in sequences]


async def submit_all(batcher: Batcher, requests: list[list[Any]], **options: Any) -> list[asyncio.Task[Answer]]:
    """Submits requests one after the other; they wait on return."""
    tasks = [asyncio.create_task(batcher.submit(request, **options)) for request in requests]
    await asyncio.sleep(0)  # lets every task run up to its wait
    return tasks


def sums(answer: Answer) -> list[float]:
    return answer.batch.logits.ravel().tolist()


# Continuous batching


def test_requests_that_come_while_a_batch_runs_are_batched_together():
    async def scenario(batcher: Batcher, run: Held) -> None:
        tasks = await submit_all(batcher, [rows([2]), rows([3, 4]), rows([5])])
        run.go.set()
        await asyncio.gather(*tasks)
        assert run.batches == [[[1]], [[2], [3, 4], [5]]]

    play_held(scenario)


@both_loops
def test_requests_that_reach_their_sockets_while_a_batch_runs_in_the_loop_join_the_next(
    run_loop: Callable[[Any], None],
):
    """The second batch has the row that was left, and all that could be read meanwhile."""
    pairs = [socket.socketpair() for _ in range(8)]
    tasks: list[asyncio.Task[Answer]] = []

    def send() -> None:
        if len(run.batches) == 1:
            for client, _ in pairs:
                client.send(b"x")

    run = FakeRun(during=send)
    batcher = make(run, tokens=20)

    class Server(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            tasks.append(asyncio.create_task(batcher.submit(rows([2]))))

    async def main() -> None:
        loop = asyncio.get_running_loop()
        transports = [(await loop.connect_accepted_socket(Server, server))[0] for _, server in pairs]
        await batcher.submit(rows([1] * 20, [1]))
        await asyncio.gather(*tasks)
        await batcher.close()
        for transport in transports:
            transport.close()

    run_loop(main())
    for client, _ in pairs:
        client.close()
    assert run.batches == [[[1] * 20], [[1], *[[2]] * 8]]


def test_an_idle_batcher_waits_for_no_timer_and_only_a_few_rounds_of_the_loop():
    async def scenario(batcher: Batcher, run: FakeRun) -> None:
        loop = asyncio.get_running_loop()
        loop.call_at = loop.call_later = None  # a timer would fail
        (task,) = await submit_all(batcher, [rows([1])])
        for _ in range(1 + ROUNDS):
            assert run.batches == []
            await asyncio.sleep(0)
        assert run.batches == [[[1]]]
        del loop.call_at, loop.call_later
        await task

    play(scenario)


@pytest.mark.parametrize(
    ("offload", "batches"),
    [(False, [[[0], [1], [2]]]), (True, [[[0]], [[1], [2]]])],
    ids=["in the loop", "a device of its own does not wait for the loop"],
)
def test_requests_that_come_within_these_rounds_run_together(offload: bool, batches: list[list[list[int]]]):
    go = threading.Event()

    async def scenario(batcher: Batcher, run: FakeRun) -> None:
        async def come(late: int) -> None:
            for _ in range(late):
                await asyncio.sleep(0)
            if late == 2:
                asyncio.get_running_loop().call_soon(go.set)
            await batcher.submit(rows([late]))

        await asyncio.gather(*map(come, range(3)))
        assert run.batches == batches

    play(scenario, FakeRun(during=lambda: offload and go.wait(10)), offload=offload)


def test_the_event_loop_goes_on_between_batches():
    async def scenario(batcher: Batcher, run: FakeRun) -> None:
        seen = []

        async def watch() -> None:
            while len(run.batches) < 6:
                seen.append(len(run.batches))
                await asyncio.sleep(0)

        await asyncio.gather(watch(), batcher.submit(rows(*[[1]] * 6)))
        assert set(seen) == set(range(6))

    play(scenario, tokens=1)


def test_the_event_loop_goes_on_while_a_batch_runs_in_a_thread():
    async def scenario(_: Batcher, run: Held) -> None:
        for _ in range(100):
            await asyncio.sleep(0)
        assert run.batches == [[[1]]]
        assert not run.go.is_set()

    play_held(scenario)


def test_a_batch_in_the_loop_runs_in_its_thread():
    threads = []
    play(lambda batcher, _: batcher.submit(rows([1])), FakeRun(during=lambda: threads.append(threading.get_ident())))
    assert threads == [threading.get_ident()]


@both
@pytest.mark.parametrize(
    ("tokens", "batches"),
    [(5, [[[2, 2], [3, 3, 3]], [[4] * 6], [[5]]]), (9, [[[2, 2], [3, 3, 3]], [[4] * 6, [5]]]), (1, None)],
)
def test_batches_stay_within_their_tokens(tokens: int, batches: list[list[list[int]]] | None, offload: bool):
    requests = [[2, 2], [3, 3, 3], [4] * 6, [5]]

    async def scenario(batcher: Batcher, run: FakeRun) -> None:
        await asyncio.gather(*await submit_all(batcher, [rows(request) for request in requests]))
        assert run.batches == (batches or [[request] for request in requests])

    play(scenario, tokens=tokens, offload=offload)


# Split and merge


@both
def test_every_request_gets_its_own_rows_in_order(offload: bool):
    async def scenario(batcher: Batcher, _: FakeRun) -> None:
        tasks = await submit_all(batcher, [rows([2, 2], [3]), rows([4]), rows([5], [6, 6, 6])])
        batches = [answer.batch for answer in await asyncio.gather(*tasks)]
        assert [batch.logits.ravel().tolist() for batch in batches] == [[4, 3], [4], [5, 18]]
        assert [batch.norm_statistics.ravel().tolist() for batch in batches] == [[2, 2, 3], [4], [5, 6, 6, 6]]
        assert [batch.lengths.tolist() for batch in batches] == [[2, 1], [1], [1, 3]]

    play(scenario, offload=offload)


@both
def test_a_request_of_many_rows_is_split_and_merged(offload: bool):
    async def scenario(batcher: Batcher, run: FakeRun) -> None:
        large, small = await submit_all(batcher, [rows(*[[number] * 2 for number in range(5)]), rows([7])])
        assert sums(await small) == [7]
        batch = (await large).batch
        assert run.batches == [[[0, 0], [1, 1], [7]], [[2, 2], [3, 3]], [[4, 4]]]
        assert batch.logits.ravel().tolist() == [0, 2, 4, 6, 8]
        assert batch.norm_statistics.ravel().tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
        assert batch.lengths.tolist() == [2] * 5
        assert batch.feature_moments.shape == (0, 2, 1)

    play(scenario, tokens=5, offload=offload)


def test_an_answer_says_how_long_it_waited_and_ran():
    clock = Clock()

    async def scenario(batcher: Batcher, run: FakeRun) -> None:
        first, split, last = await submit_all(batcher, [rows([1] * 4), rows([2], [2] * 3, [2] * 4), rows([3])])
        assert (await first)[1:] == (0.0, 2.0)
        assert (await last)[1:] == (2.0, 2.0)
        assert (await split)[1:] == (2.0, 6.0)
        assert run.batches == [[[1] * 4], [[2], [3]], [[2] * 3], [[2] * 4]]

    play(scenario, FakeRun(during=lambda: clock.wait(2.0)), tokens=4, clock=clock)


# Fairness and age bound


@both
def test_a_large_request_does_not_hold_up_small_ones(offload: bool):
    async def scenario(batcher: Batcher, run: FakeRun) -> None:
        requests = await submit_all(batcher, [rows(*[[9]] * 50), *[rows([number]) for number in range(4)]])
        answered: list[asyncio.Task[Answer]] = []
        for request in requests:
            request.add_done_callback(answered.append)
        await asyncio.gather(*requests)
        await asyncio.sleep(0)
        assert answered == [*requests[1:], requests[0]]
        assert run.batches[0] == [*[[9]] * 6, [0], [1], [2], [3]], "they share the first batch"
        assert len(run.batches) == 6

    play(scenario, tokens=10, offload=offload)


def test_an_endless_flow_of_small_requests_does_not_starve_a_large_one():
    clock = Clock()

    async def scenario(batcher: Batcher, run: FakeRun) -> None:
        async def client() -> None:
            while not large.done():
                await batcher.submit(rows([1]))

        large = asyncio.create_task(batcher.submit(rows(*[[9]] * 30)))
        clients = [asyncio.create_task(client()) for _ in range(40)]
        await large
        # in turn the large one gets a row of every fourth batch or so, past its age half of each
        until_aged = round(MAX_AGE / 0.01)
        assert until_aged < len(run.batches) <= until_aged + 30 / 5 + 2
        await asyncio.gather(*clients)

    play(scenario, FakeRun(during=lambda: clock.wait(0.01)), tokens=10, clock=clock)


# Deadlines


def test_an_expired_request_is_dropped_before_it_runs():
    async def scenario(batcher: Batcher, run: Held) -> None:
        late, patient = (
            await submit_all(batcher, [rows([2], [3])], timeout=0.01),
            await submit_all(batcher, [rows([4])]),
        )
        with pytest.raises(DeadlineExceeded, match=r"within 0\.01 s"):
            await late[0]
        assert (batcher.backlog.tokens, batcher.backlog.requests) == (1, 1)
        run.go.set()
        await patient[0]
        assert run.batches == [[[1]], [[4]]]

    assert play_held(scenario).counters.expired == 1


def test_a_request_expires_while_its_batch_runs_in_a_thread():
    async def scenario(batcher: Batcher, run: Held) -> None:
        run.go.set()
        await batcher.submit(rows([2]))
        run.go.clear(), run.started.clear()
        late = asyncio.create_task(batcher.submit(rows([3]), timeout=0.01))
        with pytest.raises(DeadlineExceeded):
            await late
        assert not run.go.is_set()
        run.go.set()
        assert sums(await batcher.submit(rows([4]))) == [4]

    play_held(scenario)


@both
def test_a_request_out_of_time_from_the_start_never_runs(offload: bool):
    async def scenario(batcher: Batcher, run: FakeRun) -> None:
        with pytest.raises(DeadlineExceeded):
            await batcher.submit(rows([1]), timeout=0)
        assert run.batches == []

    play(scenario, offload=offload)


def test_the_rows_of_an_expired_request_that_have_not_run_never_do():
    clock = Clock()

    async def scenario(batcher: Batcher, run: FakeRun) -> None:
        with pytest.raises(DeadlineExceeded):
            await batcher.submit(rows(*[[1]] * 10), timeout=2.5)
        assert len(run.batches) == 3

    play(scenario, FakeRun(during=lambda: clock.wait(1.0)), tokens=1, clock=clock)


def test_an_answer_that_is_ready_is_given_even_if_its_time_was_up_meanwhile():
    async def scenario(batcher: Batcher, _: FakeRun) -> None:
        assert sums(await batcher.submit(rows([3]), timeout=0.01)) == [3]

    assert play(scenario, FakeRun(during=lambda: time.sleep(0.03))).counters.expired == 0


def test_only_requests_with_a_timeout_have_a_timer_and_it_goes_with_them():
    async def scenario(batcher: Batcher, _: FakeRun) -> None:
        loop, timers = asyncio.get_running_loop(), []
        call_later = loop.call_later
        loop.call_later = lambda *args: timers.append(call_later(*args)) or timers[-1]
        await batcher.submit(rows([1]))
        assert timers == []
        await batcher.submit(rows([1]), timeout=60)
        assert [timer.cancelled() for timer in timers] == [True]

    play(scenario)


# Disconnects


def test_abandoned_requests_are_dropped_before_they_run():
    async def scenario(batcher: Batcher, run: Held) -> None:
        tasks = await submit_all(batcher, [rows([2]), rows([3, 3], [3]), rows([4])])
        tasks[1].cancel()
        await asyncio.sleep(0)
        assert (batcher.backlog.tokens, batcher.backlog.requests) == (2, 2), "they do not wait any more"
        run.go.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(answers[1], asyncio.CancelledError)
        assert run.batches[1:] == [[[2], [4]]]

    assert play_held(scenario).counters.abandoned == 1


@both
def test_a_queue_of_abandoned_requests_runs_nothing(offload: bool):
    async def scenario(batcher: Batcher, run: FakeRun) -> None:
        (task,) = await submit_all(batcher, [rows([2])])
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert sums(await batcher.submit(rows([3]))) == [3]
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
        assert sums(await batcher.submit(rows([3]))) == [3]
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
        assert sums(await batcher.submit(rows([9]))) == [9]
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


# Overload


@pytest.mark.parametrize("request_rows", [[[3] * 4], [[3]] * 4], ids=["one row", "many rows"])
def test_requests_beyond_the_queues_tokens_are_refused_at_once(request_rows: list[list[int]]):
    async def scenario(batcher: Batcher, run: Held) -> None:
        tasks = await submit_all(batcher, [rows([2] * 7)])
        with pytest.raises(Overloaded, match="7 of at most 10 tokens wait") as caught:
            await batcher.submit(rows(*request_rows))
        assert caught.value.retry_after > 0
        tasks += await submit_all(batcher, [rows([4] * 3)])
        run.go.set()
        await asyncio.gather(*tasks)
        assert sum(sums(await batcher.submit(rows(*request_rows)))) == 12, "taken again when there is room"

    assert play_held(scenario, queue=10).counters.overloaded == 1


def test_a_request_larger_than_the_queue_is_taken_when_nothing_waits():
    async def scenario(batcher: Batcher, run: Held) -> None:
        large = await submit_all(batcher, [rows(*[[2]] * 30)])
        with pytest.raises(Overloaded):
            await batcher.submit(rows([3]))
        run.go.set()
        assert sums(await large[0]) == [2] * 30
        small = await submit_all(batcher, [rows([3])])
        with pytest.raises(Overloaded):
            await batcher.submit(rows(*[[2]] * 30))
        await small[0]

    play_held(scenario, queue=10)


def test_retry_after_is_what_waits_over_the_rate_at_which_it_drains():
    clock = Clock()

    async def scenario(batcher: Batcher, _: FakeRun) -> None:
        (first,) = await submit_all(batcher, [rows([1] * 60)])
        with pytest.raises(Overloaded) as caught:
            await batcher.submit(rows([1] * 60))
        assert caught.value.retry_after == 1, "nothing is known before the first batch"
        await first
        assert batcher.drain_rate == pytest.approx(60 / 3)
        tasks = await submit_all(batcher, [rows([1] * 40), rows([1] * 30)])
        with pytest.raises(Overloaded, match=r"again in 4 s") as caught:
            await batcher.submit(rows([1] * 60))
        assert caught.value.retry_after == pytest.approx(70 / 20)
        await asyncio.gather(*tasks)

    play(scenario, FakeRun(during=lambda: clock.wait(3.0)), queue=100, clock=clock)


def test_the_drain_rate_follows_the_newest_batches():
    clock, seconds = Clock(), 1.0

    async def scenario(batcher: Batcher, _: FakeRun) -> None:
        nonlocal seconds
        await batcher.submit(rows(*[[1] * 10] * 50))
        assert batcher.drain_rate == pytest.approx(10)
        seconds = 4.0
        await batcher.submit(rows(*[[1] * 10] * 50))
        assert batcher.drain_rate == pytest.approx(2.5, rel=0.05)

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

        await asyncio.gather(others(), batcher.submit(rows(*[[1] * 10] * 20)))
        assert batcher.drain_rate == pytest.approx(5, rel=0.1)

    play(scenario, FakeRun(during=lambda: clock.wait(1.0)), tokens=10, clock=clock)


def test_what_ran_is_counted():
    async def scenario(batcher: Batcher, _: FakeRun) -> None:
        await batcher.submit(rows([1, 2], [3], [4, 5]))
        await batcher.submit(rows([6]))

    counters = play(scenario, tokens=3).counters
    assert (counters.batches, counters.rows, counters.tokens) == (3, 4, 6)
    assert (counters.overloaded, counters.expired, counters.abandoned) == (0, 0, 0)


# Shutdown


def test_close_answers_a_full_queue_and_refuses_what_comes_later():
    async def scenario(batcher: Batcher, run: Held) -> None:
        tasks = await submit_all(batcher, [rows([number], [number]) for number in range(5)])
        with pytest.raises(Overloaded):
            await batcher.submit(rows([9]))
        closing = asyncio.create_task(batcher.close())
        await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="stopping"):
            await batcher.submit(rows([9]))
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
            await batcher.submit(rows([1]))

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
                    tasks.append(asyncio.create_task(batcher.submit(rows(*expected[-1]))))
                case str():
                    bad = batcher.submit(rows([1], [POISON]), 0 if event == "expire" else None)
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

    play(scenario, tokens=tokens, offload=offload)
