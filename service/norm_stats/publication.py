"""What this replica tells the others of its fleet: which of its time buckets changed, since when."""

import secrets
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
from pydantic_core import to_json

from runtime.statistics.fleet import EVERYTHING, EVERYTHING_DEEP, Content
from runtime.statistics.recorder import NormRecorder, Place
from runtime.statistics.state import NormState, SparseState
from runtime.statistics.windows import Windows
from runtime.store.binary import pack_content, pack_figures
from runtime.store.shares import BASELINES, FIGURES, WHOLE, Published, Replica, Share

EVERY = 10.0  # seconds between two looks at histograms: they are most of what is sent
QUIET = 0.9  # seconds without traffic after which they are told at once: a replica may end any time
STARTS = 1000  # earlier starts that are named: others have forgotten those before
NEVER = float("-inf")
SIZES = Windows.sizes()
NOTHING = np.zeros(0, dtype=np.int64)
Mark = tuple[str, int, str]  # ring, number, kind
Held = Mapping[Place, Content | NormState]


class Publication:
    """Marks what changed with a sequence, and gives what is newer than one.

    Every place is told as it stands, from its beginning: what a reader has missed does not matter.

    Args:
        name: host and port of the service, for people.
    """

    def __init__(self, recorder: NormRecorder, name: str) -> None:
        self.recorder, self.name = recorder, name
        self.id = secrets.token_hex(8)
        self.replaces: tuple[str, ...] = ()
        self.sequence = 0
        self.marks: dict[Mark, int] = {}
        self.newest: dict[str, int] = {}  # of each ring, the newest bucket that was marked
        self._seen, self._whole_seen, self._whole_at = (0, 0), (0, 0), NEVER

    @property
    def counted(self) -> tuple[str, ...]:
        """The starts whose counts are here: this one, and those before, the newest first."""
        return (self.id, *self.replaces)[:STARTS]

    def since(self, sequence: int, baselines: Sequence[bytes] = (), revision: int = 0, last: bool = False) -> Published:
        """All that is newer than `sequence`; 0 gives all there is.

        Args:
            baselines: those that were taken from live traffic, oldest first.
            revision: of these; 0 where none was ever taken or dropped.
            last: whether nothing will be told any more, so that histograms are told now.
        """
        now, recorded = self.recorder.clock(), self.recorder.window(None)
        places, filling = self.recorder.changed(self.newest)
        if last or now - self.recorder.latest >= QUIET:
            self._whole_at = NEVER
        self._mark(now, (recorded.everything.requests, recorded.deep.requests), places)
        held = {**filling, (EVERYTHING, 0): recorded.everything, (EVERYTHING_DEEP, 0): recorded.deep}
        wanted = sorted(mark for mark, marked in self.marks.items() if marked > sequence)
        shares = [self._share(mark, content) for mark, content in self._contents(wanted, held)]
        if revision:
            content = zlib.compress(to_json([baseline.decode() for baseline in baselines]), 1)
            shares.append(Share(BASELINES, 0, WHOLE, revision, content))
        replica = Replica(self.id, self.name, self.recorder.since, self.replaces, self.sequence, revision)
        return Published(replica, now, shares)

    def _mark(self, now: float, seen: tuple[int, int], places: list[Place]) -> None:
        """Marks what changed, given the requests and the deep ones that were seen, and the buckets that may have."""
        figures_changed = seen[0] != self._seen[0]
        whole_due = now - self._whole_at >= EVERY and seen != self._whole_seen
        if not (figures_changed or whole_due):
            return
        self.sequence += 1
        changed = [*places, (EVERYTHING, 0), (EVERYTHING_DEEP, 0)]
        if figures_changed:
            self.marks |= {(*place, FIGURES): self.sequence for place in changed if not is_deep(place)}
            self._seen = seen
        if whole_due:
            figures = [mark for mark in self.marks if mark[2] == FIGURES]
            since_then = [mark[:2] for mark in figures if self.marks[mark] > self.marks.get((*mark[:2], WHOLE), 0)]
            deep = [place for place in changed if is_deep(place)] if seen[1] != self._whole_seen[1] else []
            self.marks |= {(*place, WHOLE): self.sequence for place in [*since_then, *deep]}
            self._whole_at, self._whole_seen = now, seen
        newest = self.newest | dict(place for place in places if not is_deep(place) or whole_due)
        if newest != self.newest:  # a bucket began: others are too old now
            self.newest, oldest = newest, {ring: newest.get(ring, 0) - size for ring, size in SIZES.items()}
            self.marks = {mark: marked for mark, marked in self.marks.items() if mark[1] > oldest.get(mark[0], -1)}

    def _contents(self, wanted: Sequence[Mark], held: Held) -> list[tuple[Mark, Content | NormState]]:
        """What lies at the places that are wanted, as it stands now.

        Args:
            held: what is not over; what is, is looked up.
        """
        first: dict[str, int] = {}
        for ring, number, _ in wanted:
            if (ring, number) not in held:
                first[ring] = min(first.get(ring, number), number)
        found: dict[Place, Content | NormState] = {}
        if first:
            for ring, number, content in self.recorder.buckets({ring: first.get(ring, 1 << 62) for ring in SIZES}):
                found[ring, number] = content
        found.update(held)
        return [(mark, found[mark[:2]]) for mark in wanted if mark[:2] in found]

    def _share(self, mark: Mark, content: Content | NormState) -> Share:
        ring, number, kind = mark
        if isinstance(content, NormState):
            content = SparseState.compress(content) if kind == WHOLE else without_histograms(content)
        if kind == FIGURES:
            assert isinstance(content, SparseState)
            return Share(ring, number, kind, self.marks[mark], pack_figures(content))
        return Share(ring, number, kind, self.marks[mark], pack_content(content))


def is_deep(place: Place) -> bool:
    return place[0].startswith(EVERYTHING_DEEP)


def without_histograms(state: NormState) -> SparseState:
    return SparseState(state.requests, state.tokens, state.moments, NOTHING, NOTHING, {}, state.traffic)
