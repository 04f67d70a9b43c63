"""When a batch runs: in the event loop, or in a thread beside it. There is no timer and no wait when idle."""

import asyncio
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from typing import TYPE_CHECKING, Protocol

from runtime.packing import Tokens
from service.backlog import Request

if TYPE_CHECKING:
    from service.batcher import Batcher, Outcome

# Before a batch that runs in it, the event loop reads what lies in its sockets, round after round while that brings
# more requests. One that brings none takes 1 to 2 us; asyncio takes three to come to what a task submits.
STILL_ROUNDS = 3
# Reading, and refusing, takes at most READS times as long as the batch before took to run, or READING seconds: an
# overload must not keep what was accepted from its turn. With one time as long, thousands of connections waited half a
# second and more to be refused at five times the capacity; with three, little was answered.
READS = 2.0
READING = 0.002
# Seconds for which an idle loop looks into its sockets before it sleeps, where the request before came as soon: waking
# up takes a core some 50 us, in which a client beside it could have had its answer.
LINGER = 0.0001


class Pump(Protocol):
    """Runs a batcher's batches while something waits; it does not keep the batcher, which goes with its model."""

    def press(self, batcher: "Batcher") -> None:
        """Something comes, and may be refused: a batch that is overdue runs before."""

    def wake(self, batcher: "Batcher") -> None:
        """A request waits."""

    async def close(self) -> None:
        """Returns when nothing waits any more; nothing more may come."""


class LoopPump:
    """Runs batches in the event loop, which costs less than handing over where one core does both."""

    def __init__(self) -> None:
        self.active = False
        self.pressed = self.seen = self.still = 0
        self.since = self.due = self.ran = 0.0
        self.idle_since = -math.inf
        self.brisk = False  # whether the last request came before the loop would have gone to sleep
        self.polling = False
        self.context = Context()  # of no request's own
        self.idle = asyncio.Event()
        self.idle.set()

    def press(self, batcher: "Batcher") -> None:
        self.pressed += 1
        if self.active and batcher.clock() > self.due:
            self._turn(batcher)

    def wake(self, batcher: "Batcher") -> None:
        if not self.active:
            self.active = True
            self.idle.clear()
            self.since = batcher.clock()
            self.brisk = self.since - self.idle_since < LINGER
            self._read_on(batcher, READING)

    async def close(self) -> None:
        await self.idle.wait()

    def _reading(self) -> float:
        return max(READING, READS * self.ran)

    def _read_on(self, batcher: "Batcher", seconds: float) -> None:
        self.due = batcher.clock() + seconds
        self.seen, self.still = self.pressed, 0
        asyncio.get_running_loop().call_soon(self._round, batcher, context=self.context)

    def _round(self, batcher: "Batcher") -> None:
        """A round of the event loop has passed."""
        self.still = self.still + 1 if self.seen == self.pressed else 0
        self.seen = self.pressed
        if self.still < STILL_ROUNDS and batcher.clock() < self.due:
            asyncio.get_running_loop().call_soon(self._round, batcher, context=self.context)
            return
        try:
            self._turn(batcher)
        finally:
            if batcher.backlog.requests:
                self._read_on(batcher, self._reading())
            else:
                self.active = False
                self.idle.set()
                self.idle_since = batcher.clock()
                if self.brisk and not self.polling:
                    self._linger(batcher.clock)

    def _linger(self, clock: Callable[[], float]) -> None:
        self.polling = not self.active and clock() - self.idle_since < LINGER
        if self.polling:
            asyncio.get_running_loop().call_soon(self._linger, clock, context=self.context)

    def _turn(self, batcher: "Batcher") -> None:
        started = batcher.clock()
        if requests := batcher.next_batch():
            rows = shares(requests)
            outcomes = batcher.attempt(rows)
            batcher.finish(requests, outcomes, started, self.since)
            self.since = batcher.clock()
            self.ran = self.since - started
            if batcher.after is not None and (done := answered(rows, outcomes)):
                # after the tasks that the answers have woken
                asyncio.get_running_loop().call_soon(batcher.after, done)
        self.due = batcher.clock() + self._reading()


class ThreadPump:
    """Runs batches in a thread of its own, for a device other than this core."""

    def __init__(self) -> None:
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="addnorm-run")
        self.task: asyncio.Task[None] | None = None

    def press(self, batcher: "Batcher") -> None:
        """The thread needs no turn of the event loop's."""

    def wake(self, batcher: "Batcher") -> None:
        if self.task is None:
            self.task = asyncio.get_running_loop().create_task(self._drain(batcher), context=Context())

    async def close(self) -> None:
        if self.task is not None:
            await asyncio.shield(self.task)
        self.thread.shutdown()

    async def _drain(self, batcher: "Batcher") -> None:
        loop = asyncio.get_running_loop()
        since = batcher.clock()
        try:
            while requests := batcher.next_batch():
                started = batcher.clock()
                rows = shares(requests)
                outcomes = await loop.run_in_executor(self.thread, batcher.attempt, rows)
                batcher.finish(requests, outcomes, started, since)
                since = batcher.clock()
                if batcher.after is not None and (done := answered(rows, outcomes)):
                    self.thread.submit(batcher.after, done)
        finally:
            self.task = None


def shares(requests: Sequence[Request]) -> list[Sequence[Tokens]]:
    """The rows of each request that are in the batch."""
    return [request.sequences[request.start : request.stop] for request in requests]


def answered(rows: Sequence[Sequence[Tokens]], outcomes: "Sequence[Outcome]") -> list[Tokens]:
    """The rows that an answer was found for."""
    pairs = zip(rows, outcomes, strict=True)
    return [sequence for share, outcome in pairs if not isinstance(outcome, Exception) for sequence in share]
