"""The aggregator: adds up what all processes of a service answered, and recent rates."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NamedTuple, Protocol

from starlette.concurrency import run_in_threadpool

from runtime.errors import Unavailable
from service.batching.batcher import Batcher
from service.telemetry.counters import Gauges, Tally
from service.telemetry.inference_counts import Counted, Inferences, add_up
from service.telemetry.request_log import RequestLog

PERIOD = 0.25  # seconds between two snapshots of a process
RECENT = (10, 60)  # seconds of the stretches of time that rates are about
STEP = 1.0  # seconds between the points of time that are remembered


class Stretch(NamedTuple):
    """What was counted in the last `seconds`."""

    seconds: float
    tally: Tally


class Report(NamedTuple):
    """What the aggregator says.

    Attributes:
        since: when counting began (Unix seconds).
        seconds: since then.
        workers: processes that answer.
        total: all that was counted.
        now: the gauges now, over all processes.
        recent: what was counted lately, by each of RECENT; shorter while the service is younger.
    """

    since: float
    seconds: float
    workers: int
    total: Tally
    now: Gauges
    recent: dict[int, Stretch]


class CountSink(Protocol):
    """Takes the counts of one process, and gives those of all: ProcessCounts, in this process or in another."""

    def count(self, tally: Tally, gauges: Gauges, inferences: Inferences) -> None: ...
    def traffic(self) -> Report: ...
    def inferences(self) -> Inferences: ...
    def check_ready(self) -> None: ...


class Aggregator:
    """Adds up the tallies of processes; what those counted that have ended stays.

    Args:
        clock: seconds, never going back.

    Attributes:
        stopping: whether a signal has told the service to end.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock, self.stopping = clock, False
        self.since, self._started = time.time(), clock()
        self._ended, self._inferences_ended = Tally.nothing(), Inferences()
        self._processes: list[ProcessCounts] = []
        self._past = deque([(self._started, Tally.nothing())], maxlen=int(max(RECENT) / STEP) + 2)
        self._lock = threading.Lock()

    def open(self) -> "ProcessCounts":
        """The counts of one more process."""
        process_counts = ProcessCounts(self)
        with self._lock:
            self._processes.append(process_counts)
        return process_counts

    def close(self, process_counts: "ProcessCounts") -> None:
        with self._lock:
            if process_counts in self._processes:
                self._processes.remove(process_counts)
                self._ended += process_counts.tally
                self._inferences_ended = add_up([self._inferences_ended, process_counts.answered])

    def enter(self, process_counts: "ProcessCounts", tally: Tally, gauges: Gauges, inferences: Inferences) -> None:
        with self._lock:
            process_counts.answered |= inferences
            process_counts.tally, process_counts.gauges, process_counts.counts = tally, gauges, True
            now = self.clock()
            if now - self._past[-1][0] >= STEP:
                self._past.append((now, self._total()))

    def report(self) -> Report:
        with self._lock:
            now, total = self.clock(), self._total()
            gauges = sum((process_counts.gauges for process_counts in self._processes), Gauges())
            workers = sum(process_counts.counts for process_counts in self._processes)
            recent = {seconds: self._since(now - seconds, now, total) for seconds in RECENT}
        return Report(self.since, now - self._started, workers, total, gauges, recent)

    def inferences(self) -> Inferences:
        """What all processes answered, ended ones included."""
        with self._lock:
            return add_up([self._inferences_ended, *(process_counts.answered for process_counts in self._processes)])

    def check_ready(self) -> None:
        """Raises Unavailable once the service is to end."""
        if self.stopping:
            raise Unavailable("The service is stopping: send requests to another one.")

    def _total(self) -> Tally:
        return sum((process_counts.tally for process_counts in self._processes), self._ended)

    def _since(self, start: float, now: float, total: Tally) -> Stretch:
        """What was counted from `start` on: from the last point of time before it that is remembered."""
        begun, before = next((point for point in reversed(self._past) if point[0] <= start), self._past[0])
        return Stretch(now - begun, total - before)


class ProcessCounts:
    """What one process has counted by now.

    Attributes:
        counts: whether it has handed in anything.
        answered: what it answered with each artifact.
    """

    def __init__(self, aggregator: Aggregator) -> None:
        self.aggregator, self.counts = aggregator, False
        self.tally, self.gauges, self.answered = Tally.nothing(), Gauges(), Inferences()

    def count(self, tally: Tally, gauges: Gauges, inferences: Inferences) -> None:
        """Takes the newest snapshot of the process.

        Args:
            inferences: of artifacts of which nothing new was counted, it may say nothing.
        """
        self.aggregator.enter(self, tally, gauges, inferences)

    def traffic(self) -> Report:
        return self.aggregator.report()

    def inferences(self) -> Inferences:
        return self.aggregator.inferences()

    def check_ready(self) -> None:
        self.aggregator.check_ready()

    def close(self) -> None:
        """The process has ended."""
        self.aggregator.close(self)


class Reporter:
    """Hands in, four times a second, what this process counted.

    Args:
        request_log: where it counts.
        batchers: those of the models that are loaded, at any time.
        counted: what was answered with them.
    """

    def __init__(
        self, request_log: RequestLog, sink: CountSink, batchers: Callable[[], Iterable[Batcher]], counted: Counted
    ) -> None:
        self.request_log, self.sink, self.batchers, self.counted = request_log, sink, batchers, counted
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begins, in the event loop that runs."""
        self._tick()

    def stop(self) -> None:
        """Hands in a last time."""
        if self._timer is not None:
            self._timer.cancel()
        with suppress(Unavailable):  # nobody is left to count for
            self.hand_in()

    def hand_in(self) -> None:
        """Hands in at once. In the event loop only: no snapshot must overtake an older one.

        Raises:
            Unavailable: the aggregator's process is gone.
        """
        tally, gauges = self.request_log.counters.snapshot(self.batchers(), self.counted.ran)
        self.sink.count(tally, gauges, self.counted.changed())

    async def report(self) -> Report:
        """What all processes counted, and this one up to now."""
        self.hand_in()
        return await run_in_threadpool(self.sink.traffic)

    async def inferences(self) -> Inferences:
        """The same of each artifact, for the inference statistics."""
        self.hand_in()
        return await run_in_threadpool(self.sink.inferences)

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(PERIOD, self._tick)
        try:
            self.hand_in()
        except Unavailable:
            self._timer.cancel()  # nobody is left to count for, and this process ends
