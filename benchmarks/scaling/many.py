"""A fleet of many replicas that have counted for a day: what it takes one of them to hear of all, and to report."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from benchmarks.cost.inference import random_sequences
from benchmarks.scaling.traffic import fill
from runtime.artifact import Artifact
from runtime.graph.batch import EncodedBatch
from runtime.graph.encoder import Encoder
from runtime.store.shares import Published
from service.fleet.courier import Courier
from service.fleet.redis_store import RedisStore
from service.norm_stats.collector import Collector
from service.norm_stats.interface import AllLayers, WindowQuery
from service.norm_stats.pool import CollectorPool
from service.norm_stats.publication import Publication
from service.settings import Settings

REPLICAS, DIFFERENT = 32, 4  # replicas; of these, some that have seen different traffic: the others repeat theirs
SMALL, LARGE = 64, 512  # requests of a bucket of an hour, of a day
TURNS, REPORTS = 20, 15
WINDOWS = ("1h", "24h", "all")


@dataclass(slots=True)
class Found:
    """Milliseconds of this process's time, but for `first_waited` and `reports`: those are of the clock.

    Attributes:
        shares: that all others told at first.
        turns: each of the courier's in steady state, those that bring histograms too.
        reports: each of a window.
    """

    shares: int = 0
    told: int = 0
    first: float = 0.0
    first_waited: float = 0.0
    turns: list[float] = field(default_factory=list)
    reports: dict[str, list[float]] = field(default_factory=dict)


class Others:
    """All replicas but one. They tell the store what they counted.

    Args:
        now: the time that they all have.
    """

    def __init__(self, artifact: Artifact, store: RedisStore, now: list[float], count: int) -> None:
        self.artifact, self.store, self.now, self.count = artifact, store, now, count
        self.small, self.large = traffic(artifact)
        collectors = [Collector(artifact, Settings(device="cpu")) for _ in range(min(DIFFERENT, count))]
        self.recorders = [collector.recorder for collector in collectors]
        for number, recorder in enumerate(self.recorders):
            recorder.clock = lambda: now[0]
            fill(recorder, now[0], self.small[number:], self.large)
        self.publications = [Publication(recorder, "other:8000") for recorder in self.recorders]
        self.told = [0] * len(self.publications)

    def tell(self) -> list[Published]:
        """Everything that is new, from each."""
        published = [each.since(told) for each, told in zip(self.publications, self.told, strict=True)]
        self.told = [each.replica.sequence for each in published]
        for number in range(self.count):
            one = published[number % len(published)]
            named = replace(one.replica, id=f"{number:016x}", name=f"other-{number}:8000")
            self.store.push(self.artifact.manifest, one._replace(replica=named, clock=time.time()))
        return published

    def observe(self, turn: int) -> None:
        for number, recorder in enumerate(self.recorders):
            recorder.observe(self.small[(turn + number) % len(self.small)])


def measure(artifact: Artifact, url: str, replicas: int = REPLICAS) -> Found:
    """One replica that starts among others that have counted for a day, and goes on with them."""
    now, found = [time.time()], Found()
    others = Others(artifact, RedisStore(url), now, replicas - 1)
    published = others.tell()
    shares = [each for number in range(others.count) for each in published[number % len(published)].shares]
    found.shares, found.told = len(shares), sum(len(share.content) for share in shares)
    pool = CollectorPool(Settings(device="cpu", store=url))
    collector = pool.open(artifact)
    collector.recorder.clock = lambda: now[0]
    collector.observe(others.small[0], 0.0)
    courier, started = Courier(RedisStore(url), pool), time.perf_counter()
    found.first, found.first_waited = spent(courier.turn), 1e3 * (time.perf_counter() - started)
    for turn in range(TURNS):
        now[0] += 1.0
        others.observe(turn)
        collector.observe(others.small[turn % len(others.small)], 0.0)
        others.tell()
        found.turns.append(spent(courier.turn))
    for window in WINDOWS:
        found.reports[window] = [waited(collector, window) for _ in range(REPORTS)]
    return found


def traffic(artifact: Artifact) -> tuple[list[EncodedBatch], list[EncodedBatch]]:
    """Batches of what comes in a bucket of an hour, and of a day."""
    encoder, sequences = Encoder(artifact), random_sequences(artifact, 2 * LARGE)
    rng = np.random.default_rng(0)

    def some(size: int, count: int) -> list[EncodedBatch]:
        return [encoder.run([sequences[i] for i in rng.integers(len(sequences), size=size)]) for _ in range(count)]

    return some(SMALL, 16), some(LARGE, 4)


def waited(collector: Collector, window: str) -> float:
    started = time.perf_counter()
    collector.report(AllLayers(WindowQuery(window, scope="fleet")))
    return 1e3 * (time.perf_counter() - started)


def spent(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return 1e3 * (time.process_time() - started)
