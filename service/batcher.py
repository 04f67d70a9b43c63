"""Continuous batching: requests join the batch that forms while the previous one runs.

There is no timer and no wait when idle. The graph runs in one worker thread, so that the event loop goes on reading and
answering; a request that fails inside a batch fails alone.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from runtime.batch import EncodedBatch
from runtime.errors import Unavailable
from runtime.packing import Tokens

Run = Callable[[Sequence[Tokens]], EncodedBatch]


@dataclass(slots=True)
class _Job:
    sequences: list[Tokens]
    tokens: int
    answer: asyncio.Future[EncodedBatch]


class Batcher:
    """Runs sequences of concurrent requests together.

    Args:
        run: packs and runs sequences; called in a worker thread, one call at a time.
        max_tokens: a batch takes further requests while it has fewer tokens.
    """

    def __init__(self, run: Run, max_tokens: int) -> None:
        self.run, self.max_tokens = run, max_tokens
        self.queue: deque[_Job] = deque()
        self.worker = ThreadPoolExecutor(1, thread_name_prefix="addnorm-run")
        self.pump: asyncio.Task[None] | None = None
        self.closed = False

    async def submit(self, sequences: list[Tokens]) -> EncodedBatch:
        """Answers for these sequences, however they were batched.

        Raises:
            Unavailable: the service is stopping.
        """
        if self.closed:
            raise Unavailable("The service is stopping: send the request again later.")
        answer = asyncio.get_running_loop().create_future()
        self.queue.append(_Job(sequences, sum(map(len, sequences)), answer))
        if self.pump is None:
            self.pump = asyncio.create_task(self._drain())
        return await answer

    async def close(self) -> None:
        """Answers what was accepted, then stops."""
        self.closed = True
        if self.pump is not None:
            await self.pump
        self.worker.shutdown()

    async def _drain(self) -> None:
        try:
            while jobs := self._next_batch():
                await self._answer(jobs)
        finally:
            self.pump = None

    def _next_batch(self) -> list[_Job]:
        """Takes waiting requests, oldest first, until the batch is full; abandoned ones are dropped."""
        jobs: list[_Job] = []
        tokens = 0
        while self.queue and (not jobs or tokens + self.queue[0].tokens <= self.max_tokens):
            job = self.queue.popleft()
            if not job.answer.done():
                jobs.append(job)
                tokens += job.tokens
        return jobs

    async def _answer(self, jobs: list[_Job]) -> None:
        sequences = [sequence for job in jobs for sequence in job.sequences]
        try:
            batch = await asyncio.get_running_loop().run_in_executor(self.worker, self.run, sequences)
        except Exception as error:
            if len(jobs) > 1:
                for job in jobs:
                    await self._answer([job])
            elif not jobs[0].answer.done():
                jobs[0].answer.set_exception(error)
            return
        start = 0
        for job in jobs:
            stop = start + len(job.sequences)
            if not job.answer.done():
                job.answer.set_result(batch.rows(start, stop))
            start = stop
