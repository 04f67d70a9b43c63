"""What this replica tells the others of its fleet: which of its time buckets changed, since when."""

import secrets
import zlib
from collections.abc import Sequence
from dataclasses import replace
from threading import Lock

import numpy as np
from pydantic_core import to_json

from runtime.statistics.fleet import EVERYTHING, EVERYTHING_DEEP, Content
from runtime.statistics.recorder import Lately, NormRecorder, Place
from runtime.statistics.state import NormState, SparseState
from runtime.statistics.windows import Windows
from runtime.store.binary import pack_content, pack_figures
from runtime.store.kept import Kept
from runtime.store.shares import BASELINES, FIGURES, WHOLE, Published, Replica, Share
from service.norm_stats.baselines import NONE_TAKEN, Taken

EVERY = 10.0  # seconds between two looks at histograms: they are most of what is sent
QUIET = 0.9  # seconds without traffic after which they are told at once: a replica may end any time
DAY = 86_400.0  # seconds after which baselines are told again: a store drops what nobody writes for long
STARTS = 1000  # earlier starts that are named: others have forgotten those before
NEVER = float("-inf")
SIZES = Windows.sizes()
NOTHING = np.zeros(0, dtype=np.int64)
Mark = tuple[str, int, str]  # ring, number, kind


class Publication:
    """Marks what changed with a sequence, and gives what is newer than one; to several threads at once.

    Every place is told as it stands, from its beginning: what a reader has missed does not matter.

    Args:
        name: host and port of the service, for people.

    Attributes:
        resumed: whether what earlier starts counted is told as well.
    """

    def __init__(self, recorder: NormRecorder, name: str) -> None:
        self.recorder, self.name = recorder, name
        self.id = secrets.token_hex(8)
        self.replaces: tuple[str, ...] = ()
        self.resumed = False
        self.sequence = 0
        self.marks: dict[Mark, int] = {}
        self.newest: dict[str, int] = {}  # of each ring, the newest bucket that was marked
        self._seen, self._whole_seen, self._whole_at = (0, 0), (0, 0), NEVER
        self._baselines, self._baselines_marked, self._baselines_at = packed(NONE_TAKEN), 0, NEVER
        self._lock = Lock()

    @property
    def counted(self) -> tuple[str, ...]:
        """The starts whose counts are here: this one, and those before, the newest first."""
        return (self.id, *self.replaces)[:STARTS]

    def resume(self, kept: Kept) -> None:
        """Goes on from what earlier starts counted: all buckets are told anew, in the place of theirs."""
        document = kept.document
        with self._lock:  # nobody is told of these starts without their counts, or of the counts alone
            self.replaces, self.resumed, self.newest = (*self.replaces, *kept.replicas), True, {}
            self.recorder.resume(document.state, document.deep, document.covered.start, kept.buckets)

    def since(self, sequence: int, taken: Taken = NONE_TAKEN, last: bool = False) -> Published:
        """All that is newer than `sequence`; 0 gives all there is.

        Args:
            taken: the baselines in force.
            last: whether nothing will be told any more, so that histograms are told now.
        """
        with self._lock:
            now, lately = self.recorder.clock(), self.recorder.lately(self.newest)
            if last or now - self.recorder.latest >= QUIET:
                self._whole_at = NEVER
            self._mark(now, (lately.everything.requests, lately.deep_requests), lately.places)
            self._mark_baselines(now, taken)
            wanted = sorted(mark for mark, marked in self.marks.items() if marked > sequence)
            shares = [self._share(mark, content) for mark, content in self._contents(wanted, lately)]
            if self._baselines_marked > sequence:
                shares.append(self._baselines)
            started = self.recorder.since
            replica = Replica(self.id, self.name, started, self.replaces, self.sequence, taken.revision)
            return Published(replica, now, shares)

    def _mark_baselines(self, now: float, taken: Taken) -> None:
        if taken.revision != self._baselines.sequence:
            self._baselines, self._baselines_at = packed(taken), NEVER
        if taken.revision and now - self._baselines_at >= DAY:
            self.sequence += 1
            self._baselines_marked, self._baselines_at = self.sequence, now

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

    def _contents(self, wanted: Sequence[Mark], lately: Lately) -> list[tuple[Mark, Content | NormState]]:
        """What lies at the places that are wanted, as it stands now; what `lately` has not is looked up."""
        figures: dict[Place, NormState] = {(EVERYTHING, 0): lately.everything, **lately.filling}
        quick = [mark for mark in wanted if mark[2] == FIGURES and mark[:2] in figures]
        rest = [mark for mark in wanted if not (mark[2] == FIGURES and mark[:2] in figures)]
        found = self._looked_up(rest) if rest else {}
        slow: list[tuple[Mark, Content | NormState]] = [(mark, found[mark[:2]]) for mark in rest if mark[:2] in found]
        return [*((mark, figures[mark[:2]]) for mark in quick), *slow]

    def _looked_up(self, marks: Sequence[Mark]) -> dict[Place, Content | NormState]:
        """What lies at the places of these, histograms added up."""
        recorded = self.recorder.window(None)
        found: dict[Place, Content | NormState] = {}
        found |= {(EVERYTHING, 0): recorded.everything, (EVERYTHING_DEEP, 0): recorded.deep}
        found.update(self.recorder.filling())
        first: dict[str, int] = {}
        for ring, number, _ in marks:
            if (ring, number) not in found:
                first[ring] = min(first.get(ring, number), number)
        if first:
            for ring, number, content in self.recorder.buckets({ring: first.get(ring, 1 << 62) for ring in SIZES}):
                found.setdefault((ring, number), content)
        return found

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


def packed(taken: Taken) -> Share:
    """Its sequence is the revision: of all that replicas share the highest holds."""
    content = zlib.compress(to_json([baseline.decode() for baseline in taken.contents]), 1)
    return Share(BASELINES, 0, WHOLE, taken.revision, content)


def untold(published: Published) -> Published:
    """As a replica that has counted nothing so far: who asks it is told all once that may be told."""
    return published._replace(replica=replace(published.replica, replaces=(), sequence=0, revision=0), shares=())
