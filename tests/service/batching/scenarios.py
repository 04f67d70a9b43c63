"""What the tests of the batcher share: runs that can be held, a clock, and scenarios to play."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np
import pytest
import uvloop

from runtime.graph.batch import EncodedBatch
from runtime.graph.inputs import Tokens
from service.batching.batcher import Batcher
from service.batching.executors import LoopExecutor, ThreadExecutor
from service.batching.queue import Answer

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
    executor = ThreadExecutor() if offload else LoopExecutor()
    return Batcher(run, max_batch_tokens=tokens, max_queue_tokens=queue, executor=executor, **more)


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
        assert (batcher.queue.tokens, batcher.queue.requests) == (0, 0)

    asyncio.run(main())
    return batcher


def play_held(scenario: Scenario, **options: Any) -> Batcher:
    """Plays a scenario while a first request [1] runs in the thread, until the scenario lets it `go`."""

    async def held(batcher: Batcher, run: Held) -> None:
        first = asyncio.create_task(submit(batcher, rows([1])))
        await asyncio.to_thread(run.started.wait)
        try:
            await scenario(batcher, run)
        finally:
            run.go.set()
        assert (await first).batch.logits.tolist() == [[1]]

    return play(held, Held(), offload=True, **options)


def rows(*sequences: list[int]) -> list[Any]:
    return [np.array(sequence) for sequence in sequences]


async def submit(batcher: Batcher, sequences: Sequence[Tokens], timeout: float | None = None) -> Answer:
    """The answer to a request; cancelling it abandons the request."""
    waiting: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    request = batcher.admit(sequences, waiting, timeout)
    try:
        return await waiting
    except asyncio.CancelledError:
        batcher.abandon(request)
        raise


async def submit_all(batcher: Batcher, requests: list[list[Any]], **options: Any) -> list[asyncio.Task[Answer]]:
    """Submits requests one after the other; they wait on return."""
    tasks = [asyncio.create_task(submit(batcher, request, **options)) for request in requests]
    await asyncio.sleep(0)  # lets every task run up to its wait
    return tasks


def sums(answer: Answer) -> list[float]:
    return answer.batch.logits.ravel().tolist()
