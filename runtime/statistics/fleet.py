"""The statistics of a fleet: what this replica recorded, and what all others did, as if one had seen everything."""

from collections import defaultdict
from collections.abc import Mapping
from math import inf
from typing import TypeVar

from runtime.manifest import NormLayer
from runtime.statistics.deep import DeepState
from runtime.statistics.recorder import Costs, NormRecorder, Place, Recorded
from runtime.statistics.state import NormState, SparseState
from runtime.statistics.traffic import Traffic
from runtime.statistics.windows import Span, Windows, began

EVERYTHING, EVERYTHING_DEEP = "everything", "deep"  # beside the names of rings: what was seen since counting began
Content = SparseState | DeepState
Key = TypeVar("Key", int, float)  # a time, or the number of a bucket


class Others:
    """What the other replicas recorded, merged time bucket by time bucket.

    Attributes:
        since: when the first of them began to count (Unix seconds).
    """

    def __init__(self, layers: list[NormLayer]) -> None:
        self.windows = Windows(layers)
        self.state, self.deep = NormState.empty(layers), DeepState.empty(layers)
        self.since = inf

    def put(self, contents: Mapping[Place, Content | None], since: float, now: float) -> None:
        """Puts these in the place of what the buckets held; None leaves nothing there. Times are Unix seconds."""
        by_ring: defaultdict[str, dict[int, Content | None]] = defaultdict(dict)
        for (ring, number), content in contents.items():
            if ring in self.windows.named:
                by_ring[ring][number] = content
            elif ring == EVERYTHING:
                empty = NormState.empty(self.windows.layers)
                self.state = content.expand() if isinstance(content, SparseState) else empty
            elif ring == EVERYTHING_DEEP:
                self.deep = content if isinstance(content, DeepState) else DeepState.empty(self.windows.layers)
        for ring, buckets in by_ring.items():
            self.windows.named[ring].put(buckets, now)
        self.since = since


class FleetRecorder:
    """Reads what `own` and the others recorded. The counts of both are exact; the others' are as old as they came.

    Args:
        own: what this replica records.
    """

    def __init__(self, own: NormRecorder, others: Others) -> None:
        self.own, self.others = own, others

    @property
    def since(self) -> float:
        return min(self.own.since, self.others.since)

    @property
    def costs(self) -> Costs:
        """This replica's."""
        return self.own.costs

    def clock(self) -> float:
        return self.own.clock()

    def window(self, span: Span | None) -> Recorded:
        """As `NormRecorder.window`."""
        own, others, now = self.own.window(span), self.others, self.clock()
        everything = own.everything.merge(others.state)
        if span is None:
            deep = own.deep.merge(others.deep)
            return Recorded(Span(self.since, own.covered.end), everything, deep, everything)
        state = own.state.merge(others.windows.window(span, now)[1])
        return Recorded(own.covered, state, own.deep.merge(others.windows.deep_window(span, now)), everything)

    def figures(self, span: Span) -> NormState:
        """As `NormRecorder.figures`."""
        own = self.own.figures(span)
        return own.merge(self.others.windows.window(span, self.clock(), histograms=False)[1])

    def began(self, requests: int) -> float:
        """As `NormRecorder.began`."""
        now = self.clock()
        return began(sorted([*self.own.requests(), *self.others.windows.requests(now)]), requests, now)

    def history(self, span: Span) -> tuple[int, list[tuple[int, Traffic]]]:
        """As `NormRecorder.history`."""
        seconds, own = self.own.history(span)
        _, others = self.others.windows.history(span, self.clock())
        return seconds, together([*own, *others])

    def traffic(self) -> list[tuple[float, Traffic]]:
        """As `NormRecorder.traffic`."""
        (_, older), *own = self.own.traffic(self.since)
        others = [(max(start, self.since), each) for start, each in self.others.windows.traffic(self.clock())]
        theirs = before(self.others.state.traffic, Traffic.merge_all([traffic for _, traffic in others]))
        return [(self.since, older.merge(theirs)), *together([*own, *others])]


def before(everything: Traffic, day: Traffic) -> Traffic:
    """What came before the day; nothing while the totals are not there yet: what others told comes in parts."""
    if len(day.counts) and (len(everything.counts) != len(day.counts) or (everything.counts < day.counts).any()):
        return Traffic.nothing()
    return everything.without(day)


def together(buckets: list[tuple[Key, Traffic]]) -> list[tuple[Key, Traffic]]:
    """Buckets in the order of time, those of the same time as one."""
    gathered: defaultdict[Key, list[Traffic]] = defaultdict(list)
    for when, traffic in buckets:
        gathered[when].append(traffic)
    return [(when, Traffic.merge_all(gathered[when])) for when in sorted(gathered)]
