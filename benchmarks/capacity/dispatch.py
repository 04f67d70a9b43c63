"""Which worker gets a request: what load balancers, and the kernel, know and do.

A balancer is told at once when a request was answered, and there is one of it. Several that share the load each know
their own requests alone.
"""

from collections.abc import Callable
from typing import Protocol

import numpy as np

CONNECTIONS = 16  # to each worker, on average, where every client keeps one

Make = Callable[[int, int, np.random.Generator], "Dispatch"]


class Dispatch(Protocol):
    """Chooses among N workers, by number."""

    def choose(self) -> int:
        """The worker of the next request."""

    def release(self, worker: int, requests: int) -> None:
        """So many requests of a worker were answered."""


class InTurn:
    """Workers of the requests, decided before any comes: nothing that is answered changes them."""

    def __init__(self, workers: list[int]) -> None:
        self._next = iter(workers).__next__

    def choose(self) -> int:
        return self._next()

    def release(self, worker: int, requests: int) -> None:
        """What is under way does not count."""


def round_robin(workers: int, requests: int, _rng: np.random.Generator) -> Dispatch:
    """One after the other."""
    return InTurn((np.arange(requests) % workers).tolist())


def at_random(workers: int, requests: int, rng: np.random.Generator) -> Dispatch:
    """Each request anywhere."""
    return InTurn(rng.integers(workers, size=requests).tolist())


def by_connection(workers: int, requests: int, rng: np.random.Generator) -> Dispatch:
    """SO_REUSEPORT: each of a fixed number of connections stays at a worker, chosen at random when it was opened.

    Every request comes over any of them: as of as many clients, equally busy, that keep theirs open.
    """
    owners = rng.integers(workers, size=CONNECTIONS * workers)
    return InTurn(owners[rng.integers(len(owners), size=requests)].tolist())


class Pool:
    """SO_REUSEPORT behind one client that sends over the connection that was idle last, else over a new one.

    So does benchmarks/serving/open_loop.py. A worker that answers sooner is idle sooner, and gets more.
    """

    def __init__(self, workers: int, requests: int, rng: np.random.Generator) -> None:
        self.idle: list[int] = []
        self.opened = iter(rng.integers(workers, size=requests).tolist())

    def choose(self) -> int:
        return self.idle.pop() if self.idle else next(self.opened)

    def release(self, worker: int, requests: int) -> None:
        self.idle += [worker] * requests


class TwoChoices:
    """Two workers at random, of which the one with fewer requests under way gets it (Mitzenmacher 2001)."""

    def __init__(self, workers: int, requests: int, rng: np.random.Generator) -> None:
        first = rng.integers(workers, size=requests)
        second = (first + rng.integers(1, workers, size=requests)) % workers if workers > 1 else first
        self.pairs = iter(zip(first.tolist(), second.tolist(), strict=True))
        self.under_way = [0] * workers

    def choose(self) -> int:
        first, second = next(self.pairs)
        worker: int = first if self.under_way[first] <= self.under_way[second] else second
        self.under_way[worker] += 1
        return worker

    def release(self, worker: int, requests: int) -> None:
        self.under_way[worker] -= requests


class LeastLoaded:
    """The worker with the fewest requests under way; of several any. It takes the same time with any number of them."""

    def __init__(self, workers: int, requests: int, rng: np.random.Generator) -> None:
        self.draws = iter(rng.random(requests).tolist())
        self.under_way, self.lowest = [0] * workers, 0
        self.levels: list[list[int]] = [list(range(workers))]  # workers, by their requests under way
        self.places = list(range(workers))  # where each stands in its level

    def choose(self) -> int:
        while not self.levels[self.lowest]:
            self.lowest += 1
        level = self.levels[self.lowest]
        worker = level[int(next(self.draws) * len(level))]
        self._move(worker, self.lowest + 1)
        return worker

    def release(self, worker: int, requests: int) -> None:
        self._move(worker, self.under_way[worker] - requests)
        self.lowest = min(self.lowest, self.under_way[worker])

    def _move(self, worker: int, count: int) -> None:
        level, place = self.levels[self.under_way[worker]], self.places[worker]
        last = level.pop()
        if last != worker:  # the last one takes its place
            level[place], self.places[last] = last, place
        while len(self.levels) <= count:
            self.levels.append([])
        self.under_way[worker], self.places[worker] = count, len(self.levels[count])
        self.levels[count].append(worker)


POLICIES: dict[str, Make] = {
    "round robin": round_robin,
    "least loaded": LeastLoaded,
    "random of two": TwoChoices,
    "by connection": by_connection,
}
