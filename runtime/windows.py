"""Time windows over recorded statistics: rings of time buckets, each a state, merged when asked.

The last hour is kept in short buckets, the last day in longer ones, so memory is bounded whatever the traffic. A window
is answered in whole buckets, and the answer says from when to when.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from runtime.manifest import NormLayer
from runtime.moments import Moments
from runtime.statistics import NormState, Traffic


class Span(NamedTuple):
    """A stretch of time in Unix seconds, start <= t < end."""

    start: float
    end: float


@dataclass(frozen=True, slots=True)
class SealedState:
    """A state whose bucket is over: its histograms, nearly empty, are kept by their occupied places."""

    requests: int
    tokens: int
    moments: Moments
    places: NDArray[np.int64]
    counts: NDArray[np.int64]
    features: dict[int, Moments]
    traffic: Traffic

    @classmethod
    def seal(cls, state: NormState) -> "SealedState":
        flat = state.histograms.ravel()
        places = np.flatnonzero(flat)
        return cls(
            state.requests,
            state.tokens,
            state.moments,
            places,
            flat[places],
            state.features,
            state.traffic,
        )


def merge_sealed(parts: Sequence[SealedState], layers: list[NormLayer]) -> NormState:
    """All parts together."""
    empty = NormState.empty(layers)
    if not parts:
        return empty
    for part in parts:
        empty.histograms.ravel()[part.places] += part.counts
    features = {
        index: Moments.merge_all([moments, *(part.features[index] for part in parts if index in part.features)])
        for index, moments in empty.features.items()
    }
    return NormState(
        sum(part.requests for part in parts),
        sum(part.tokens for part in parts),
        Moments.merge_all([part.moments for part in parts]),
        empty.histograms,
        features,
        reduce(Traffic.merge, (part.traffic for part in parts)),
    )


@dataclass(slots=True)
class Ring:
    """Buckets of equal length, oldest first; the last one is filling.

    Attributes:
        seconds: length of a bucket.
        size: buckets kept.
    """

    seconds: int
    size: int
    sealed: deque[tuple[int, SealedState]] = field(default_factory=deque)
    filling: tuple[int, NormState] | None = None

    def add(self, state: NormState, when: float) -> None:
        """Adds a state to the bucket of Unix time `when`; time that goes backwards counts as the filling bucket's."""
        number = int(when // self.seconds)
        if self.filling is not None and number > self.filling[0]:
            self.sealed.append((self.filling[0], SealedState.seal(self.filling[1])))
            self.filling = None
        if self.filling is None:
            self.filling = number, state
        else:
            self.filling = self.filling[0], self.filling[1].merge(state)
        while self.sealed and self.sealed[0][0] <= number - self.size:
            self.sealed.popleft()

    def oldest(self, now: float) -> float:
        """The time before which this ring has forgotten everything."""
        return (int(now // self.seconds) - self.size + 1) * self.seconds

    def window(self, span: Span, layers: list[NormLayer]) -> tuple[Span, NormState]:
        """Everything in the buckets that overlap `span`, and the stretch that they cover."""
        first, last = int(span.start // self.seconds), -int(-span.end // self.seconds)
        state = merge_sealed([sealed for number, sealed in self.sealed if first <= number < last], layers)
        if self.filling is not None and first <= self.filling[0] < last:
            state = state.merge(self.filling[1])
        return Span(first * self.seconds, last * self.seconds), state


class Windows:
    """An hour of traffic in buckets of 10 seconds, and a day of it in buckets of 5 minutes."""

    def __init__(self, layers: list[NormLayer]) -> None:
        self.layers = layers
        self.rings = (Ring(10, 361), Ring(300, 289))

    @property
    def resolution(self) -> int:
        """Seconds of the shortest bucket."""
        return self.rings[0].seconds

    def add(self, state: NormState, when: float) -> None:
        for ring in self.rings:
            ring.add(state, when)

    def traffic(self, now: float) -> list[tuple[float, Traffic]]:
        """The day's traffic, newest first: when each bucket began (Unix seconds), and what drift is judged by."""
        ring = self.rings[-1]
        buckets = [(number, sealed.traffic) for number, sealed in ring.sealed]
        if ring.filling is not None:
            buckets.append((ring.filling[0], ring.filling[1].traffic))
        oldest = ring.oldest(now)
        return [(n * ring.seconds, traffic) for n, traffic in reversed(buckets) if n * ring.seconds >= oldest]

    def window(self, span: Span, now: float) -> tuple[Span, NormState]:
        """The traffic of `span`, from the finest ring that still knows its beginning, else from the coarsest."""
        ring = next((ring for ring in self.rings if span.start >= ring.oldest(now)), self.rings[-1])
        if span.end <= ring.oldest(now):
            return span, NormState.empty(self.layers)
        return ring.window(Span(max(span.start, ring.oldest(now)), span.end), self.layers)
