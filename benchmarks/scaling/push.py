"""What it takes a replica to tell the others, each second and each tenth second, in time of its core and in bytes."""

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from benchmarks.scaling.traffic import batches, fill, recorder
from runtime.manifest import Manifest
from runtime.store.shares import WHOLE, Published
from service.fleet.redis_store import RedisStore
from service.norm_stats.publication import Publication

SECONDS, RATE, BATCH = 120, 100, 4  # of made-up time; requests a second; requests of a batch
WARM = 11  # seconds that are not counted: what is told first is everything
START = 1_764_115_200.0  # a full hour
FIGURES, HISTOGRAMS = "figures", "histograms"
Result = TypeVar("Result")


@dataclass(slots=True)
class Pushes:
    """Of each push, by its kind: milliseconds of the core for what was told and for telling it, and its bytes.

    Attributes:
        observed: milliseconds a second to count the traffic of the replica that tells, but for what telling folds.
        alone: the same of a replica that tells nobody, and folds all itself.
    """

    published: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    sent: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    size: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    observed: float = 0.0
    alone: float = 0.0


class Traffic:
    """Traffic of made-up time, a second at a time."""

    def __init__(self, norms: int) -> None:
        self.now, self.made = [START], batches(norms, BATCH)
        self.recorder = recorder(norms, self.now)
        fill(self.recorder, START, self.made, self.made)  # a replica that has counted for a day has most to look at

    def observe(self, second: int) -> None:
        """A second's."""
        for number in range(RATE // BATCH):
            self.now[0] += BATCH / RATE
            self.recorder.observe(self.made[(second + number) % len(self.made)])


def measure(norms: int, manifest: Manifest, store: RedisStore) -> Pushes:
    """Two minutes of traffic after a day of it, told to a store every second.

    Args:
        manifest: whose digest names what is told.
    """
    told, untold, found, sequence = Traffic(norms), Traffic(norms), Pushes(), 0
    publication = Publication(told.recorder, "benchmark:1")
    for second in range(WARM + SECONDS):
        _, observed = timed(partial(told.observe, second))
        _, alone = timed(partial(untold.observe, second))
        published, spent = timed(partial(publication.since, sequence))
        _, sent = timed(partial(store.push, manifest, published))
        sequence = published.replica.sequence
        if second >= WARM:
            found.observed += observed / SECONDS
            found.alone += alone / SECONDS
            note(found, published, spent, sent)
    return found


def note(found: Pushes, published: Published, spent: float, sent: float) -> None:
    kind = HISTOGRAMS if any(share.kind == WHOLE for share in published.shares) else FIGURES
    found.published[kind].append(spent)
    found.sent[kind].append(sent)
    found.size[kind].append(len(published.pack()))


def timed(work: Callable[[], Result]) -> tuple[Result, float]:
    """What it gives, and milliseconds of this process's time."""
    started = time.process_time()
    result = work()
    return result, 1e3 * (time.process_time() - started)
