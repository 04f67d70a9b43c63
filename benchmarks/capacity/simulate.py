"""Discrete events: N workers that batch as the service does, each with one thread for everything.

A worker reads what has come, request after request, and what comes meanwhile too; then it runs a batch of what waits,
writes the answers, and reads again. Nothing is timed: while a batch runs, the next one gathers. So do
service/batching/executors.py and batcher.py, which give the bounds of reading. Simpler than there: rows of large
requests are taken in the order of requests and not in turn, nothing is refused, and no connection is opened.
"""

import heapq
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.capacity.dispatch import Make
from benchmarks.serving.open_loop import poisson_schedule
from service.batching.executors import FILLING, READING, READS

WARM_UP = 0.2  # share of the requests, the first ones, whose latencies do not count
IDLE, READ, RUN = range(3)


@dataclass(frozen=True, slots=True)
class Worker:
    """What a worker's work takes; seconds, and tokens.

    Attributes:
        read, write: of a request, before and after its batch.
        batch, token: a batch of n tokens runs for batch + token x n.
        max_batch_tokens: that run together; a longer row runs alone.
        pauses: for which it stands still, each as likely; `pause_rate` of them a second. Empty for none.
    """

    read: float
    write: float
    batch: float
    token: float
    max_batch_tokens: float
    pauses: tuple[float, ...] = ()
    pause_rate: float = 0.0

    def alone(self, tokens: float) -> float:
        """Seconds that a request takes where there is no other."""
        return self.read + self.batch + self.token * tokens + self.write

    def capacity(self, tokens: float) -> float:
        """Most requests of so many tokens that it answers in a second, in full batches."""
        together = max(1.0, self.max_batch_tokens / tokens)
        return 1 / (self.read + self.write + self.batch / together + self.token * tokens)


@dataclass(frozen=True, slots=True)
class Load:
    """Requests in the order in which they come.

    Attributes:
        due: seconds, ascending [n].
        tokens: of each request, all its rows together [n].
        rows: of each request.
    """

    due: NDArray[np.float64]
    tokens: NDArray[np.float64]
    rows: int = 1


@dataclass(frozen=True, slots=True)
class Simulated:
    """What became of a load.

    Attributes:
        latency: seconds from due to answered [n].
        answers: how many were given in all.
        utilization: share of the time until the last answer in which workers worked, on average.
        batch: requests that were answered by a batch, on average.
    """

    latency: NDArray[np.float64]
    answers: int
    utilization: float
    batch: float

    def percentile(self, percent: float) -> float:
        """Seconds; of the requests after the warm-up."""
        return float(np.percentile(self.latency[int(WARM_UP * len(self.latency)) :], percent))


def poisson_load(
    rate: float, seconds: float, lengths: NDArray[np.float64], rng: np.random.Generator, rows: int = 1, burst: float = 1
) -> Load:
    """On average `rate` requests a second, in a compound Poisson process.

    Args:
        lengths: tokens of rows, each as likely.
        burst: requests that come together, on average (a geometric distribution); 1 for none that do.
    """
    due = poisson_schedule(rate / burst, seconds, rng)
    if burst > 1:
        due = np.repeat(due, rng.geometric(1 / burst, size=len(due)))
    return Load(due, rng.choice(lengths, size=(len(due), rows)).sum(1).astype(float), rows)


class Clocked:
    """One worker's queue and state.

    Attributes:
        unread: requests in its sockets; `queue` those that it has read, of which `left` rows of the first one wait.
        overdue: when reading has taken long enough.
        batch: requests that are answered when what it does ends.
        pause: when it stands still next.
    """

    __slots__ = ("batch", "left", "overdue", "pause", "queue", "queued_tokens", "state", "unread")

    def __init__(self, pause: float) -> None:
        self.state, self.overdue, self.pause = IDLE, 0.0, pause
        self.unread: list[int] = []
        self.queue: deque[int] = deque()
        self.queued_tokens, self.left = 0.0, 0
        self.batch: list[int] = []


class Simulation:
    """One run; `run` gives what came of it. The same seed gives the same."""

    def __init__(self, worker: Worker, workers: int, policy: Make, load: Load, rng: np.random.Generator) -> None:
        self.worker, self.load, self.rng = worker, load, rng
        self.dispatch = policy(workers, len(load.due), rng)
        self.pauses = np.array(worker.pauses if worker.pause_rate > 0 else ())
        self.workers = [Clocked(self._until_pause()) for _ in range(workers)]
        self.tokens, self.answered = load.tokens.tolist(), np.full(len(load.due), np.nan)
        self.events: list[tuple[float, int, int]] = []  # when what a worker does ends, a number, the worker
        self.number = self.batches = self.answers = 0
        self.busy = 0.0

    def run(self) -> Simulated:
        events, workers, choose = self.events, self.workers, self.dispatch.choose
        for request, due in enumerate(self.load.due.tolist()):
            while events and events[0][0] <= due:
                self._end(*heapq.heappop(events))
            place = choose()
            worker = workers[place]
            worker.unread.append(request)
            if worker.state == IDLE:
                worker.overdue = due + READING
                self._read(worker, place, due)
        while events:
            self._end(*heapq.heappop(events))
        span = len(workers) * float(self.answered.max())
        return Simulated(self.answered - self.load.due, self.answers, self.busy / span, self.answers / self.batches)

    def _end(self, now: float, _number: int, place: int) -> None:
        """What a worker did has ended."""
        worker = self.workers[place]
        if worker.state == RUN:
            self.dispatch.release(place, len(worker.batch))
            if worker.unread:
                self._read(worker, place, now)
            elif worker.queue:
                self._run(worker, place, now)
            else:
                worker.state = IDLE
            return
        full = worker.queued_tokens >= self.worker.max_batch_tokens
        if worker.unread and not (now >= worker.overdue and (full or now >= worker.overdue + FILLING)):
            self._read(worker, place, now)
        else:
            self._run(worker, place, now)

    def _read(self, worker: Clocked, place: int, now: float) -> None:
        """Reads what has come by now."""
        worker.state = READ
        count = len(worker.unread)
        worker.queue.extend(worker.unread)
        for request in worker.unread:
            worker.queued_tokens += self.tokens[request]
        worker.unread.clear()
        self._work(worker, place, now, count * self.worker.read)

    def _run(self, worker: Clocked, place: int, now: float) -> None:
        """Runs a batch of what it has read, and writes the answers."""
        costs, worker.state = self.worker, RUN
        tokens = self._fill(worker)
        ran = self._work_until(worker, now, costs.batch + costs.token * tokens)
        count = len(worker.batch)
        self.answered[worker.batch] = ran + costs.write * np.arange(1, count + 1)
        self.batches, self.answers = self.batches + 1, self.answers + count
        worker.overdue = ran + max(READING, READS * (ran - now))
        self._work(worker, place, ran, count * costs.write)

    def _fill(self, worker: Clocked) -> float:
        """Takes the rows of the next batch, and gives their tokens; `batch` are the requests that it answers."""
        used, most, queue, rows = 0.0, self.worker.max_batch_tokens, worker.queue, self.load.rows
        worker.batch = done = []
        while queue:
            row_tokens, left = self.tokens[queue[0]] / rows, worker.left or rows
            fit = int((most - used) / row_tokens)
            if fit < 1 and used:
                break
            taken = min(left, max(1, fit))
            used += taken * row_tokens
            worker.left = left - taken
            if worker.left:
                break
            done.append(queue.popleft())
        worker.queued_tokens = max(0.0, worker.queued_tokens - used)
        return used

    def _work(self, worker: Clocked, place: int, now: float, seconds: float) -> None:
        self.number += 1
        heapq.heappush(self.events, (self._work_until(worker, now, seconds), self.number, place))

    def _work_until(self, worker: Clocked, now: float, seconds: float) -> float:
        """When work of so many seconds ends, which stands still in pauses."""
        self.busy += seconds
        end = now + seconds
        while worker.pause < end:
            at, pause = worker.pause, float(self.rng.choice(self.pauses))
            end += max(0.0, pause - max(0.0, now - at))  # of one that began before, what is left of it
            worker.pause = at + pause + self._until_pause()
        return end

    def _until_pause(self) -> float:
        return float(self.rng.exponential(1 / self.worker.pause_rate)) if len(self.pauses) else np.inf


def simulate(worker: Worker, workers: int, policy: Make, load: Load, seed: int = 0) -> Simulated:
    """Runs a load; the seed decides who gets what, and the pauses."""
    return Simulation(worker, workers, policy, load, np.random.default_rng(seed)).run()
