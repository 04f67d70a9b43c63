"""An exchange in memory that loses, doubles, delays and reorders what it is told; replicas with clocks to be set."""

from collections import defaultdict
from random import Random

from runtime.artifact import Artifact
from runtime.manifest import Manifest
from runtime.statistics.recorder import Place
from runtime.store.shares import Published, Share, Shelf
from service.fleet.courier import Courier
from service.fleet.exchange import Fetched, FleetError, Met
from service.norm_stats.collector import Collector
from service.norm_stats.pool import CollectorPool
from service.settings import Settings

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
