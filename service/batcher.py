"""Continuous batching: requests join the batch that forms while the previous one runs.

There is no timer and no wait when idle: before it runs a batch in its own thread, the event loop reads what lies in its
sockets, and that is all. A request that fails inside a batch fails alone.
"""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from dataclasses import dataclass, field

from runtime.batch import EncodedBatch, join
from runtime.errors import DeadlineExceeded, Overloaded, Unavailable
from runtime.packing import Tokens
from service.backlog import Answer, Backlog, Request

Run = Callable[[Sequence[Tokens]], EncodedBatch]

# Rounds of the event loop before a batch that runs in it: one reads the sockets that became ready during the last batch
# and its answers, in the next the tasks of these requests submit, and asyncio takes one more to come to them. An empty
# round takes 1 to 2 us; without them batches are half as large.
ROUNDS = 3
RECENT = 0.1  # weight of the newest batch in the drain rate
ROW_BOUNDS = tuple(2**power for power in range(10))  # most rows of the batches that are counted together


@dataclass(slots=True)
class Counters:
    """What the batcher did since it started.

    Attributes:
        computed_tokens: tokens that ran, and the padding between them.
        batch_rows: batches by their rows: up to each of ROW_BOUNDS, and more.
        overloaded, expired, abandoned: requests refused, out of time, and given up by their clients.
    """

    batches: int = 0
    rows: int = 0
    tokens: int = 0
    computed_tokens: int = 0
    batch_rows: list[int] = field(default_factory=lambda: [0] * (len(ROW_BOUNDS) + 1))
    overloaded: int = 0
    expired: int = 0
    abandoned: int = 0


class Batcher:
    """Runs the rows of concurrent requests together.

    Args:
        run: packs and runs sequences; one call at a time.
        max_batch_tokens: most tokens of a batch.
        max_queue_tokens: most tokens that may wait; a larger request is taken when nothing waits.
        offload: whether `run` is called in a thread of its own, for a device other than this core; else it is called
            in the event loop, which costs less than handing over.
        after: what else is done with sequences that were answered, once their answers are on their way.
        clock: seconds.
    """

    def __init__(
        self,
        run: Run,
        *,
        max_batch_tokens: int,
        max_queue_tokens: int,
        offload: bool,
        after: Callable[[Sequence[Tokens]], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.run, self.after, self.clock = run, after, clock
        self.max_batch_tokens, self.max_queue_tokens = max_batch_tokens, max_queue_tokens
        self.backlog = Backlog()
        self.counters = Counters()
        self.closed = False
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="addnorm-run") if offload else None
        self._pump: asyncio.Task[None] | None = None
        self._recent_tokens = self._recent_seconds = 0.0

    async def submit(self, sequences: Sequence[Tokens], timeout: float | None = None) -> Answer:
        """Answers for R >= 1 sequences, however they were batched. Cancelling it drops what has not run.

        Args:
            timeout: seconds from now on after which no answer is wanted.

        Raises:
            Unavailable: the service is stopping.
            Overloaded: too much waits already.
            DeadlineExceeded: the time was up.
        """
        request = self._admit(sequences, timeout)
        try:
            if timeout is None:
                return await request.answer
            timer = asyncio.get_running_loop().call_later(timeout, request.expire)
            try:
                return await request.answer
            finally:
                timer.cancel()
        except BaseException as error:
            self.backlog.drop(request)
            self.counters.abandoned += isinstance(error, asyncio.CancelledError)
            self.counters.expired += isinstance(error, DeadlineExceeded)
            raise

    async def close(self) -> None:
        """Refuses what comes from now on, answers what was accepted, then stops."""
        self.closed = True
        if self._pump is not None:
            await asyncio.shield(self._pump)
        if self._worker is not None:
            self._worker.shutdown()

    @property
    def drain_rate(self) -> float:
        """Tokens per second over the recent batches, with what else was done between them; 0 before the first."""
        return self._recent_tokens / self._recent_seconds if self._recent_seconds else 0.0

    def _admit(self, sequences: Sequence[Tokens], timeout: float | None) -> Request:
        if self.closed:
            raise Unavailable("The service is stopping: send the request again later.")
        tokens = sum(map(len, sequences))
        if self.backlog.tokens and self.backlog.tokens + tokens > self.max_queue_tokens:
            self.counters.overloaded += 1
            raise self._overloaded()
        loop = asyncio.get_running_loop()
        request = Request(sequences, loop.create_future(), self.clock())
        if timeout is not None:
            request.deadline = request.submitted + timeout
        self.backlog.add(request, tokens)
        if self._pump is None:
            self._pump = loop.create_task(self._drain(), context=Context())  # of no request's own
        return request

    def _overloaded(self) -> Overloaded:
        waiting = self.backlog.tokens
        seconds = waiting / self.drain_rate if self.drain_rate else 1.0
        return Overloaded(
            f"{waiting:,} of at most {self.max_queue_tokens:,} tokens wait already: "
            f"send the request again in {math.ceil(seconds)} s.",
            seconds,
        )

    async def _drain(self) -> None:
        """Runs batches until nothing waits."""
        since = self.clock()
        try:
            while requests := await self._next_batch():
                shares = [request.sequences[request.start : request.stop] for request in requests]
                started = self.clock()
                outcomes = await self._outcomes(shares)
                ended = self.clock()
                self._count(shares, ended - since)
                since = ended
                for request, outcome in zip(requests, outcomes, strict=True):
                    settle(request, outcome, ended - started, ended)
                self._follow_up(shares, outcomes)
        finally:
            self._pump = None

    async def _next_batch(self) -> list[Request]:
        if self._worker is None and self.backlog.requests:
            for _ in range(ROUNDS):
                await asyncio.sleep(0)
        return self.backlog.fill(self.max_batch_tokens, self.clock())

    async def _outcomes(self, shares: list[Sequence[Tokens]]) -> list[EncodedBatch | Exception]:
        if self._worker is None:
            return self._attempt(shares)
        return await asyncio.get_running_loop().run_in_executor(self._worker, self._attempt, shares)

    def _follow_up(self, shares: list[Sequence[Tokens]], outcomes: list[EncodedBatch | Exception]) -> None:
        """Hands on what was answered; in the event loop it comes after the tasks that the answers have woken."""
        if self.after is None:
            return
        pairs = zip(shares, outcomes, strict=True)
        answered = [s for share, outcome in pairs if not isinstance(outcome, Exception) for s in share]
        if answered and self._worker is None:
            asyncio.get_running_loop().call_soon(self.after, answered)
        elif answered and self._worker is not None:
            self._worker.submit(self.after, answered)

    def _attempt(self, shares: list[Sequence[Tokens]]) -> list[EncodedBatch | Exception]:
        """What came of each request's rows; where they fail together they run again apart, and who fails then is it."""
        try:
            batch = self.run([sequence for share in shares for sequence in share])
            self.counters.computed_tokens += batch.computed_tokens
            return list(batch.split([len(share) for share in shares]))
        except Exception as error:
            if len(shares) == 1:
                return [error]
            return [outcome for share in shares for outcome in self._attempt([share])]

    def _count(self, shares: list[Sequence[Tokens]], seconds: float) -> None:
        tokens = sum(len(sequence) for share in shares for sequence in share)
        rows = sum(map(len, shares))
        self.counters.batches += 1
        self.counters.rows += rows
        self.counters.batch_rows[min((rows - 1).bit_length(), len(ROW_BOUNDS))] += 1
        self.counters.tokens += tokens
        self._recent_tokens += RECENT * (tokens - self._recent_tokens)
        self._recent_seconds += RECENT * (seconds - self._recent_seconds)


def settle(request: Request, outcome: EncodedBatch | Exception, seconds: float, now: float) -> None:
    """Notes what came of a request's rows in a batch of `seconds`, and answers it if these were the last."""
    request.start = request.stop
    request.run_seconds += seconds
    if request.answer.done():  # its client left, or its time was up
        return
    if isinstance(outcome, Exception):
        request.answer.set_exception(outcome)
        return
    if request.waits or request.parts:
        request.parts.append(outcome)
    if not request.waits:
        batch = join(request.parts) if request.parts else outcome
        queued = now - request.submitted - request.run_seconds
        request.answer.set_result(Answer(batch, queued, request.run_seconds))
