"""The baselines of one artifact: its own, and those that were taken from live traffic. The last one is in force."""

import logging
from collections.abc import Sequence
from secrets import randbits
from threading import Lock
from typing import NamedTuple

from runtime.drift.baseline import Baseline, parse_baseline
from runtime.errors import ArtifactError, InvalidInput
from runtime.manifest import Manifest

logger = logging.getLogger("addnorm.statistics")

HIGHEST = 10**15  # of a revision that is followed: there must be higher ones that all replicas take
LOT = 16  # bits of a revision that chance decides


class Taken(NamedTuple):
    """The baselines that were taken from live traffic.

    Attributes:
        revision: the highest of a fleet wins, and no two replicas make the same; 0 where none was ever taken.
        contents: as JSON, oldest first.
    """

    revision: int = 0
    contents: tuple[bytes, ...] = ()


NONE_TAKEN = Taken()


class Baselines:
    """Changes by hand, by what other replicas tell, and by what an earlier start has left; in any thread.

    Args:
        own: the artifact's.
    """

    def __init__(self, own: Baseline, manifest: Manifest) -> None:
        self.own, self.manifest = own, manifest
        self.taken = NONE_TAKEN
        self._live: list[Baseline] = []  # `taken`, parsed
        self._followed = False  # whether the fleet's were in force at any time
        self._lock = Lock()

    @property
    def in_force(self) -> Baseline:
        return (self.own, *self._live)[-1]

    def take(self, baseline: Baseline) -> None:
        """Puts a new one in force."""
        with self._lock:
            contents = (*self.taken.contents, baseline.to_json())
            self._put([*self._live, baseline], Taken(above(self.taken.revision), contents))

    def drop(self) -> None:
        """Goes back to the one before. Raises InvalidInput where the artifact's own is in force."""
        with self._lock:
            if not self._live:
                raise InvalidInput(
                    "no_live_baseline", "The artifact's own baseline is in force: there is nothing to undo."
                )
            self._put(self._live[:-1], Taken(above(self.taken.revision), self.taken.contents[:-1]))

    def follow(self, taken: Taken) -> None:
        """Takes those of another replica in the place of these, where their revision is higher."""
        with self._lock:
            if not self.taken.revision < taken.revision < HIGHEST:
                return
            try:
                self._put(self._parsed(taken.contents, "A baseline of another replica"), taken)
                self._followed = True
            except ArtifactError as error:
                logger.warning("%s", error)

    def resume(self, taken: Taken) -> None:
        """Goes on from those that a file has kept: those that this process has taken are newer, and stay above them.

        A fleet whose baselines are in force already knows of the file's: the higher revision wins.
        """
        with self._lock:
            mine = self.taken
            if self._followed and taken.revision <= mine.revision:
                return
            try:
                kept = self._parsed(taken.contents, "A kept baseline")
            except ArtifactError as error:
                logger.warning("%s The artifact's own is in force.", error)
                return
            if self._followed or not mine.revision:
                self._put(kept, taken)
                return
            revision = above(max(mine.revision, taken.revision))  # what the fleet was told so far has changed
            self._put([*kept, *self._live], Taken(revision, (*taken.contents, *mine.contents)))

    def _put(self, live: list[Baseline], taken: Taken) -> None:
        self._live, self.taken = live, taken

    def _parsed(self, contents: Sequence[bytes], source: str) -> list[Baseline]:
        return [parse_baseline(content, self.manifest, source) for content in contents]


def above(revision: int) -> int:
    """A revision that is higher than that one."""
    return ((revision >> LOT) + 1 << LOT) | randbits(LOT)
