"""What replicas share, added up bucket by bucket; a share that has not changed is read once and not every second."""

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass

import numpy as np

from runtime.errors import StateError
from runtime.manifest import Manifest
from runtime.statistics.fleet import Content
from runtime.statistics.recorder import Place
from runtime.store.shares import BASELINES, Share, is_over, merged, read_share
from service.fleet.exchange import Shares

Known = dict[int, tuple[Share, Content]]  # by the share's identity, which is its own as long as it is held


class Merger:
    """Adds up the shares of one artifact.

    Args:
        clock: Unix seconds.
    """

    def __init__(self, manifest: Manifest, clock: Callable[[], float]) -> None:
        self.manifest, self.clock = manifest, clock
        self.known: dict[Place, Known] = {}  # of buckets that may change again: a day of all others is too much

    def merge(
        self, changed: Mapping[Place, Shares], without: frozenset[str]
    ) -> tuple[dict[Place, Content | None], list[str]]:
        """What all replicas but some counted in each bucket, and what could not be used, in a sentence each."""
        contents: dict[Place, Content | None] = {}
        refused: list[str] = []
        for place, shares in changed.items():
            if place[0] != BASELINES:
                contents[place], errors = self._merge(place, shares, without)
                refused += map(str, errors)
        now = self.clock()
        self.known = {place: known for place, known in self.known.items() if not is_over(place, now)}
        return contents, refused

    def _merge(self, place: Place, shares: Shares, without: frozenset[str]) -> tuple[Content | None, list[StateError]]:
        before, known = self.known.get(place, {}), Known()

        def read(share: Share, source: str) -> Content:
            if (found := before.get(id(share))) is None:
                found = share, read_share(self.manifest, place, share, source)
                make_read_only(found[1])
            known[id(share)] = found
            return found[1]

        content, errors = merged(self.manifest, place, shares, without, read)
        self.known[place] = known
        return content, errors


def make_read_only(held: object) -> None:
    """What is read once must stay as it is: its arrays raise where they are written to."""
    if isinstance(held, np.ndarray):
        held.setflags(write=False)
    elif isinstance(held, dict):
        for each in held.values():
            make_read_only(each)
    elif is_dataclass(held):
        for field in fields(held):
            make_read_only(getattr(held, field.name))
