import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np
import pytest

from runtime.batch import EncodedBatch
from runtime.errors import Unavailable
from runtime.inputs import Tokens
from service.batcher import Batcher

POISON = -1


class FakeRun:
    """Stands in for the engine: every row's logit is the sum of its tokens. Its first run waits for `go`."""

    def __init__(self) -> None:
        self.started, self.go = threading.Event(), threading.Event()
        self.batches: list[list[list[int]]] = []

    def __call__(self, sequences: Sequence[Tokens]) -> EncodedBatch:
        self.batches.append([sequence.tolist() for sequence in sequences])
        self.started.set()
        assert self.go.wait(10)
        if any(POISON in sequence for sequence in sequences):
            raise ValueError("poison")
        tokens = np.concatenate(sequences)[:, None].astype(np.float32)
        lengths = np.array([len(sequence) for sequence in sequences])
        sums = np.array([[sequence.sum()] for sequence in sequences], dtype=np.float32)
        return EncodedBatch(sums, sums, tokens, np.empty((0, 2, 1), dtype=np.float32), lengths, tokens[:, 0])


Scenario = Callable[[Batcher, FakeRun], Awaitable[None]]


def play(scenario: Scenario, max_tokens: int = 100) -> None:
    """Plays a scenario on a fresh batcher, with a first request running and waiting for `go`."""

    async def main() -> None:
        run = FakeRun()
        batcher = Batcher(run, max_tokens)
        first = asyncio.create_task(batcher.submit(rows([1])))
        await asyncio.to_thread(run.started.wait)
        try:
            async with asyncio.timeout(10):  # a request that is never answered fails instead of hanging
                await scenario(batcher, run)
                run.go.set()
                await first
        finally:
            run.go.set()
            await batcher.close()

    asyncio.run(main())


def rows(*sequences: list[int]) -> list[Any]:
    return [np.array(sequence) for sequence in sequences]


async def submit_all(batcher: Batcher, requests: list[list[Any]]) -> list[asyncio.Task[EncodedBatch]]:
    """Submits requests one after the other; they are queued on return."""
    tasks = [asyncio.create_task(batcher.submit(request)) for request in requests]
    await asyncio.sleep(0)  # lets every task run up to its wait
    return tasks


def test_requests_that_come_while_a_batch_runs_are_batched_together():
    async def scenario(batcher: Batcher, run: FakeRun) -> None:
        tasks = await submit_all(batcher, [rows([2]), rows([3, 4]), rows([5])])
        run.go.set()
        await asyncio.gather(*tasks)
        assert run.batches == [[[1]], [[2], [3, 4], [5]]]

    play(scenario)


def test_every_request_gets_its_own_rows_in_order():
    async def scenario(batcher: Batcher, run: FakeRun) -> None:
        tasks = await submit_all(batcher, [rows([2, 2], [3]), rows([4]), rows([5], [6, 6, 6])])
        run.go.set()
        answers = await asyncio.gather(*tasks)
        assert [answer.logits.ravel().tolist() for answer in answers] == [[4, 3], [4], [5, 18]]
        assert [answer.norm_statistics.ravel().tolist() for answer in answers] == [[2, 2, 3], [4], [5, 6, 6, 6]]
        assert [answer.lengths.tolist() for answer in answers] == [[2, 1], [1], [1, 3]]

    play(scenario)


def test_a_poisoned_request_fails_alone():
    async def scenario(batcher: Batcher, run: FakeRun) -> None:
        tasks = await submit_all(batcher, [rows([2]), rows([3], [POISON]), rows([4])])
        run.go.set()
        good, bad, also_good = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(bad, ValueError)
        assert (good.logits.tolist(), also_good.logits.tolist()) == ([[2]], [[4]])
        assert (await batcher.submit(rows([9]))).logits.tolist() == [[9]]

    play(scenario)


def test_cancelled_requests_are_dropped_before_they_run():
    async def scenario(batcher: Batcher, run: FakeRun) -> None:
        tasks = await submit_all(batcher, [rows([2]), rows([3]), rows([4])])
        tasks[1].cancel()
        await asyncio.sleep(0)
        run.go.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(answers[1], asyncio.CancelledError)
        assert run.batches[1:] == [[[2], [4]]]

    play(scenario)


def test_a_queue_of_cancelled_requests_runs_nothing():
    async def scenario(batcher: Batcher, run: FakeRun) -> None:
        (task,) = await submit_all(batcher, [rows([2])])
        task.cancel()
        run.go.set()
        await asyncio.gather(task, return_exceptions=True)
        assert (await batcher.submit(rows([3]))).logits.tolist() == [[3]]
        assert run.batches == [[[1]], [[3]]]

    play(scenario)


def test_a_request_cancelled_while_it_runs_harms_nobody():
    async def scenario(batcher: Batcher, run: FakeRun) -> None:
        (task,) = await submit_all(batcher, [rows([2])])
        other = asyncio.create_task(batcher.submit(rows([3])))
        run.started.clear()
        run.go.set()
        await asyncio.to_thread(run.started.wait)
        task.cancel()
        assert (await other).logits.tolist() == [[3]]

    play(scenario)


@pytest.mark.parametrize(
    ("max_tokens", "batches"),
    [(5, [[[2, 2], [3, 3, 3]], [[4] * 6], [[5]]]), (9, [[[2, 2], [3, 3, 3]], [[4] * 6, [5]]]), (1, None)],
)
def test_batches_stay_below_their_tokens(max_tokens: int, batches: list[list[list[int]]] | None):
    requests = [[2, 2], [3, 3, 3], [4] * 6, [5]]

    async def scenario(batcher: Batcher, run: FakeRun) -> None:
        tasks = await submit_all(batcher, [rows(request) for request in requests])
        run.go.set()
        await asyncio.gather(*tasks)
        assert run.batches[1:] == (batches or [[request] for request in requests])

    play(scenario, max_tokens)


def test_close_answers_what_was_accepted_and_refuses_what_comes_later():
    async def scenario(batcher: Batcher, run: FakeRun) -> None:
        tasks = await submit_all(batcher, [rows([2]), rows([3])])
        closing = asyncio.create_task(batcher.close())
        await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="stopping"):
            await batcher.submit(rows([4]))
        run.go.set()
        await closing
        assert [task.result().logits.tolist() for task in tasks] == [[[2]], [[3]]]
        assert run.batches == [[[1]], [[2], [3]]]

    play(scenario)


def test_an_idle_batcher_closes_and_refuses():
    async def main() -> None:
        batcher = Batcher(FakeRun(), 100)
        await batcher.close()
        with pytest.raises(Unavailable):
            await batcher.submit(rows([1]))

    asyncio.run(main())
