"""When a batch runs: in the event loop, or in a thread beside it. There is no wait when idle."""

import asyncio
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from functools import cache
from typing import NamedTuple, Protocol

from runtime.graph.batch import EncodedBatch
from runtime.graph.packing import Tokens
from service.batching.queue import Request, RequestQueue

# Before a batch that runs in it, the event loop reads what lies in its sockets, round after round while that brings
# more requests. One that brings none takes 1 to 2 us; asyncio takes three to come to what a task submits.
STILL_ROUNDS = 3
# Reading, and refusing, takes at most READS times as long as the batch before took to run, or READING seconds: an
# overload must not hold up what was accepted. With one time as long, thousands of connections waited half a
# second and more to be refused at five times the capacity; with three, little was answered (docs/reliability.md).
READS = 1.5
READING = 0.002
# Seconds for which a batch that is overdue, but not full, is filled while more comes. Without that, batches of one or
# two ran where each round of the loop had much else to do, and little was answered.
FILLING = 0.02
# Seconds of a batch that runs in the event loop although its model is slow: handing it over costs some 0.2 ms, and a
# health check can wait as long.
BRIEF = 0.01
# After a batch of several requests, those who were answered have so large a share of its time, and so many seconds, to
# come again before the next one begins: else two halves of the clients take turns, in batches of half the size.
REJOIN, REJOIN_MOST = 0.05, 0.003
# Seconds for which an idle loop looks into its sockets before it sleeps, where the request before came as soon: waking
# up takes a core some 50 us, in which a client beside it could have had its answer.
LINGER = 0.0001


Outcome = EncodedBatch | Exception


class Batch(NamedTuple):
    """What runs together.

    Attributes:
        rows: those of each request that are in it.
        started: when it began, on the batcher's clock (seconds).
    """

    requests: list[Request]
    rows: list[Sequence[Tokens]]
    started: float


class Batches(Protocol):
    """Where batches come from: a batcher.

    Attributes:
        after: what is done with the sequences that were answered, once their answers are on their way.
    """

    clock: Callable[[], float]
    after: Callable[[Sequence[Tokens]], None] | None
    queue: RequestQueue

    @property
    def fill_a_batch(self) -> bool:
        """Whether a batch of what waits would be full."""

    def begin(self) -> Batch | None:
        """The batch that runs next; None when nothing waits."""

    def seconds(self, batch: Batch) -> float:
        """About how long it runs."""

    def attempt(self, rows: list[Sequence[Tokens]]) -> list[Outcome]:
        """Runs them; gives what came of each request's."""

    def end(self, batch: Batch, outcomes: list[Outcome], since: float) -> list[Tokens]:
        """Delivers the outcomes of a batch; returns the sequences for `after`."""


class Executor(Protocol):
    """Runs a batcher's batches while something waits. It keeps no reference to the batcher."""

    def run_overdue(self, batches: Batches) -> None:
        """Called before a request is admitted or refused: an overdue batch runs first."""

    def notify(self, batches: Batches) -> None:
        """A request waits."""

    async def close(self) -> None:
        """Returns when nothing waits any more; nothing more may come."""


class LoopExecutor:
    """Runs batches in the event loop, which costs less than handing over where one core does both."""

    def __init__(self) -> None:
        self.active = False
        self.arrivals = self.seen = self.still = 0
        self.since = self.due = self.ran = 0.0
        self.idle_since = -math.inf
        self.brisk = False  # whether the last request came before the loop would have gone to sleep
        self.polling = False
        self.context = Context()  # of no request's own
        self.idle = asyncio.Event()
        self.idle.set()

    def run_overdue(self, batches: Batches) -> None:
        self.arrivals += 1
        if self.active and self._is_overdue(batches):
            self._run_batch(batches)

    def _is_overdue(self, batches: Batches) -> bool:
        late = batches.clock() - self.due
        return late >= 0 and (batches.fill_a_batch or late >= FILLING)

    def notify(self, batches: Batches) -> None:
        if not self.active:
            self.active = True
            self.idle.clear()
            self.since = batches.clock()
            self.brisk = self.since - self.idle_since < LINGER
            self._read_on(batches, READING)

    async def close(self) -> None:
        await self.idle.wait()

    def _reading(self) -> float:
        return max(READING, READS * self.ran)

    def _read_on(self, batches: Batches, seconds: float) -> None:
        self.due = batches.clock() + seconds
        self.seen, self.still = self.arrivals, 0
        asyncio.get_running_loop().call_soon(self._round, batches, context=self.context)

    def _round(self, batches: Batches) -> None:
        """A round of the event loop has passed."""
        self.still = self.still + 1 if self.seen == self.arrivals else 0
        self.seen = self.arrivals
        if self.still < STILL_ROUNDS and not self._is_overdue(batches):
            asyncio.get_running_loop().call_soon(self._round, batches, context=self.context)
            return
        try:
            self._run_batch(batches)
        finally:
            if batches.queue.requests:
                self._read_on(batches, self._reading())
            else:
                self.active = False
                self.idle.set()
                self.idle_since = batches.clock()
                if self.brisk and not self.polling:
                    self._linger(batches.clock)

    def _linger(self, clock: Callable[[], float]) -> None:
        self.polling = not self.active and clock() - self.idle_since < LINGER
        if self.polling:
            asyncio.get_running_loop().call_soon(self._linger, clock, context=self.context)

    def _run_batch(self, batches: Batches) -> None:
        if (batch := batches.begin()) is not None:
            done = batches.end(batch, batches.attempt(batch.rows), self.since)
            self.since = batches.clock()
            self.ran = self.since - batch.started
            if batches.after is not None and done:
                # after the tasks that the answers have woken
                asyncio.get_running_loop().call_soon(batches.after, done)
        self.due = batches.clock() + self._reading()


@cache
def cpu_thread(_process: int) -> ThreadPoolExecutor:
    """The thread in which all slow models of a process run their batches on the CPU, in turn.

    A thread for each would leave the event loop, which shares the CPU with them, the less time the more there are.
    """
    return ThreadPoolExecutor(1, thread_name_prefix="addnorm-cpu")


class ThreadExecutor:
    """Runs batches in a thread: for devices other than the CPU, and for models that would hold up the event loop.

    Args:
        shared: the thread, where it is not one of its own.
    """

    def __init__(self, shared: ThreadPoolExecutor | None = None) -> None:
        self.shared = shared is not None
        self.thread = shared or ThreadPoolExecutor(1, thread_name_prefix="addnorm-run")
        self.task: asyncio.Task[None] | None = None
        self.rejoin = -math.inf  # until when the next batch waits for more, on the batcher's clock

    def run_overdue(self, batches: Batches) -> None:
        """The thread does not wait for the event loop."""

    def notify(self, batches: Batches) -> None:
        if self.task is None:
            self.task = asyncio.get_running_loop().create_task(self._drain(batches), context=Context())

    async def close(self) -> None:
        if self.task is not None:
            await asyncio.shield(self.task)
        if not self.shared:
            self.thread.shutdown()

    async def _drain(self, batches: Batches) -> None:
        loop = asyncio.get_running_loop()
        since = batches.clock()
        try:
            while batches.queue.requests:
                if (rest := self.rejoin - batches.clock()) > 0 and not batches.fill_a_batch:
                    await asyncio.sleep(rest)
                if (batch := batches.begin()) is None:
                    break
                if self.shared and batches.seconds(batch) <= BRIEF:
                    outcomes = batches.attempt(batch.rows)
                else:
                    outcomes = await loop.run_in_executor(self.thread, batches.attempt, batch.rows)
                done = batches.end(batch, outcomes, since)
                since = batches.clock()
                several = len(batch.requests) > 1
                self.rejoin = since + min(REJOIN * (since - batch.started), REJOIN_MOST) if several else since
                if batches.after is not None and done:
                    self.thread.submit(batches.after, done)
        finally:
            self.task = None
