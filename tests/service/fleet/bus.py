"""An exchange in memory that loses, doubles, delays and reorders what it is told; replicas with clocks to be set."""

import json
from collections import defaultdict
from dataclasses import replace
from random import Random
from typing import Any

from runtime.artifact import Artifact
from runtime.graph.batch import EncodedBatch
from runtime.graph.encoder import Encoder
from runtime.graph.texts import make_input_encoder
from runtime.manifest import Manifest
from runtime.statistics.recorder import Place
from runtime.store.shares import Published, Share, Shelf
from service.fleet.courier import Courier
from service.fleet.exchange import Fetched, FleetError, Met
from service.norm_stats.collector import Collector
from service.norm_stats.interface import Query
from service.norm_stats.pool import CollectorPool
from service.settings import Settings
from tests.helpers import TEXTS

MIDNIGHT = 1_764_115_200.0
Write = tuple[str, str, tuple[Share, ...]]


class Bus:
    """What a store keeps, shared by all that hold it.

    Args:
        random: decides what goes wrong; nothing does where it is None.
    """

    def __init__(self, random: Random | None = None) -> None:
        self.random = random
        self.shelves: defaultdict[str, Shelf] = defaultdict(Shelf)
        self.met: dict[tuple[str, str], Met] = {}
        self.late: list[Write] = []
        self.down = self.lost = False

    def push(self, manifest: Manifest, published: Published) -> bool:
        if self.down:
            raise FleetError("the bus is down")
        known, self.lost = not self.lost, False
        self.met[manifest.digest, published.replica.id] = Met(published.replica, published.clock, 0.0)
        write = (manifest.digest, published.replica.id, tuple(published.shares))
        chance = self.random.random() if self.random else 1.0
        if chance < 0.2:
            raise FleetError("lost on its way")
        self.write(write)
        if chance < 0.5:
            self.late.append(write)  # again, later, when newer ones have come
        if chance < 0.3:
            raise FleetError("written, but the answer was lost")
        if self.random and self.late and chance > 0.6:
            self.write(self.late.pop(self.random.randrange(len(self.late))))
        return known

    def write(self, write: Write) -> None:
        digest, replica, shares = write
        for share in shares:
            self.shelves[digest].put(replica, share)

    def fetch(self, manifest: Manifest, own: str, everything: bool) -> Fetched:
        if self.down or (self.random and self.random.random() < 0.2):
            raise FleetError("the bus is down")
        held = self.shelves[manifest.digest].held
        met = [met for (digest, _), met in self.met.items() if digest == manifest.digest]
        return Fetched({place: dict(shares) for place, shares in held.items()}, met, [])

    def close(self) -> None:
        """Nothing is open."""

    def forget(self, digest: str) -> None:
        """It holds what a store does, not what one replica knows of it."""

    def lose(self) -> None:
        """As a store that was started again without what it held."""
        self.shelves.clear()
        self.lost = True

    def places(self, digest: str) -> list[Place]:
        return list(self.shelves[digest].held)


class Replica:
    """One service of a fleet, without its HTTP."""

    def __init__(self, artifact: Artifact, exchange: Bus, now: list[float], state: Settings | None = None) -> None:
        self.pool = CollectorPool(state or Settings(store="redis://bus", device="cpu"))
        self.collector: Collector = self.pool.open(artifact)
        self.collector.recorder.clock = lambda: now[0]
        self.collector.recorder.since = now[0]
        self.courier = Courier(exchange, self.pool)

    def turn(self) -> None:
        self.courier.turn()


def alone(artifact: Artifact, now: list[float]) -> Collector:
    """A service that knows no other."""
    collector = Collector(artifact, Settings(device="cpu"))
    collector.recorder.clock, collector.recorder.since = (lambda: now[0]), now[0]
    return collector


def ask(collector: Collector, query: Query) -> Any:
    """An answer as it is read outside."""
    return json.loads(collector.report(query))


def batches_of(artifact: Artifact, *rows: int) -> list[EncodedBatch]:
    """A batch of each of these sizes."""
    encoder = Encoder(artifact)
    tokens = [item.tokens for item in make_input_encoder(artifact).encode(TEXTS)]
    return [encoder.run(tokens[each : 2 * each]) for each in rows]


def unlike(batch: EncodedBatch) -> EncodedBatch:
    """The same, each request of which counts as another one, however often it comes."""
    return replace(batch, identities=())
