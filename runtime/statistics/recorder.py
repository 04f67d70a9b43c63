"""Records what every norm sees while a model answers: cheap per batch, exact when read."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from runtime.graph.batch import EncodedBatch, token_values
from runtime.manifest import NormLayer
from runtime.statistics.buffer import NO_LIMITS, FeatureLimits
from runtime.statistics.clock import steady_clock
from runtime.statistics.deep import DeepState
from runtime.statistics.intake import Intake
from runtime.statistics.moments import Moments
from runtime.statistics.state import NormState
from runtime.statistics.traffic import Traffic
from runtime.statistics.windows import Bucket, Span, Windows, began

Summarize = Callable[[EncodedBatch], Traffic]
Place = tuple[str, int]  # a ring's name, and the number of one of its buckets


@dataclass(slots=True)
class Costs:
    """Where the time went since `started`, in seconds. Threads may add to it at the same time.

    Attributes:
        serving: running the served graph.
        recording: adding up what it said.
        deep: running the deep graph beside it.
    """

    started: float
    serving: float = 0.0
    recording: float = 0.0
    deep: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, serving: float = 0.0, recording: float = 0.0, deep: float = 0.0) -> None:
        with self._lock:
            self.serving += serving
            self.recording += recording
            self.deep += deep


@dataclass(frozen=True, slots=True)
class Recorded:
    """Some traffic, and all of it.

    Attributes:
        covered: the time that `state` and `deep` are about; deep statistics have buckets of their own, wider ones.
        everything: all traffic since counting began.
    """

    covered: Span
    state: NormState
    deep: DeepState
    everything: NormState


class Lately(NamedTuple):
    """What changes with every batch.

    Attributes:
        everything: figures of all traffic since counting began.
        filling: figures of the buckets that are not over, by ring and number.
        places: all buckets that there are since some number, those of deep statistics too.
        deep_requests: requests that were looked at deeply.
    """

    everything: NormState
    filling: dict[Place, NormState]
    places: list[Place]
    deep_requests: int


class Reading(NamedTuple):
    """What was recorded up to one moment. States do not change, so they are merged without a lock."""

    windows: Windows
    everything: NormState
    deep: DeepState
    since: float


class NormRecorder:
    """Adds batches to a state of all traffic and to time windows. Several threads may observe while others read.

    Batches are copied as they come, folded every few thousand tokens, and added to the windows when a time bucket ends
    and when read. Who observes waits for readers only while those fold: they merge and compress without a lock.

    Args:
        summarize: sums a batch up for the drift detector; None sums nothing up.
        clock: Unix time in seconds, never going back.
        limits: magnitudes beyond which values are counted as not finite: of the columns [2L], and of the features of
            every BatchNorm. One absurd input would spoil the mean of all others.
    """

    def __init__(
        self,
        layers: list[NormLayer],
        summarize: Summarize | None = None,
        clock: Callable[[], float] | None = None,
        limits: tuple[NDArray[np.float64] | None, FeatureLimits] = (None, NO_LIMITS),
    ) -> None:
        self.layers, self.summarize, self.clock = layers, summarize, clock or steady_clock()
        self.limits, feature_limits = limits
        batch_norms = [index for index, layer in enumerate(layers) if layer.kind == "batch_norm"]
        self.windows = Windows(layers)
        self.since = self.clock()  # when counting began
        self.costs = Costs(self.since)
        self._intake = Intake(2 * len(layers), batch_norms, feature_limits, self.windows.resolution, self.since)
        self._folded, self._deep = NormState.empty(layers), DeepState.empty(layers)
        self._recent: NormState | None = None  # of the last time bucket, folded but in no window yet
        self._begun = self.since  # when that bucket began to fill
        self._states = threading.Lock()  # of all states

    def observe(self, batch: EncodedBatch, seconds: float = 0.0) -> None:
        """Counts every request and every valid token of `batch`, which took `seconds` to run."""
        started = time.perf_counter()
        if self._intake.add(batch, self.clock):
            with self._states:
                self._fold()
        self.costs.add(serving=seconds, recording=time.perf_counter() - started)

    def observe_deep(self, state: DeepState, seconds: float) -> None:
        """Counts a deep look at some of the traffic, which took `seconds`."""
        with self._states:
            self._deep = self._deep.merge(state)
            self.windows.add_deep(state, self.clock())
        self.costs.add(deep=seconds)

    def resume(self, state: NormState, deep: DeepState | None, since: float, buckets: list[Bucket]) -> None:
        """Adds what another process counted since `since` (Unix seconds)."""
        with self._states:
            self._settle()
            self._folded = state.merge(self._folded)
            self._deep = deep.merge(self._deep) if deep else self._deep
            self.since = min(since, self.since)
            self.windows.resume(buckets, self.clock())

    @property
    def latest(self) -> float:
        """When something was observed last (Unix seconds), or counting began."""
        return self._intake.latest

    def state(self) -> NormState:
        """The statistics of everything observed so far."""
        return self.window(None).state

    def window(self, span: Span | None) -> Recorded:
        """What was recorded in the time buckets that overlap `span`; None for everything."""
        (windows, everything, deep, since), now = self._read(), self.clock()
        if span is None:
            return Recorded(Span(since, now), everything, deep, everything)
        covered, state = windows.window(span, now)
        return Recorded(covered, state, windows.deep_window(span, now), everything)

    def figures(self, span: Span) -> NormState:
        """The same of `span` without histograms, and without what was looked at deeply: quick, for many layers."""
        return self._read().windows.window(span, self.clock(), histograms=False)[1]

    def began(self, requests: int) -> float:
        """When the last so many requests began to come, in Unix seconds; a day ago at most."""
        return began(self.requests(), requests, self.clock())

    def requests(self) -> list[tuple[float, int]]:
        """When each bucket of the day began (Unix seconds), oldest first, and its requests."""
        return self._read().windows.requests(self.clock())

    def history(self, span: Span) -> tuple[int, list[tuple[int, Traffic]]]:
        """What drift is judged by, bucket by bucket of `span`, as `Windows.history` gives it."""
        return self._read().windows.history(span, self.clock())

    def buckets(self, since: Mapping[str, int]) -> list[Bucket]:
        """The time buckets that may have changed, given the newest of each ring that the reader has."""
        return self._read().windows.buckets(since)

    def filling(self) -> dict[Place, NormState | DeepState]:
        """What the buckets hold that are not over."""
        return self._read().windows.filling()

    def lately(self, since: Mapping[str, int]) -> Lately:
        """What changes with every batch, without histograms: those need not be added up for it, which takes longest.

        Args:
            since: of each ring, the number of the first bucket to be named.
        """
        with self._states:
            self._intake.close()
            self._fold()
            windows, folded, deep, _, recent, begun = *self._reading(), self._recent, self._begun
        places, figures = set(windows.numbers(since)), windows.figures().items()
        filling = {place: state for place, state in figures if place[1] >= since.get(place[0], 0)}
        everything = folded.without_histograms()
        if recent is not None:
            recent = recent.without_histograms()
            everything = everything.merge(recent)
            for ring in windows.rings:
                place = windows.name(ring), int(begun // ring.seconds)
                filling[place] = filling[place].merge(recent) if place in filling else recent
        return Lately(everything, filling, sorted(places | filling.keys()), deep.requests)

    def traffic(self, since: float | None = None) -> list[tuple[float, Traffic]]:
        """What drift is judged by, oldest first: all that is older than a day, then when each bucket began and its
        traffic; no earlier than counting did, here or, where others counted too, at `since`."""
        windows, everything, _, counted = self._read()
        first = counted if since is None else since
        day = [(max(start, first), traffic) for start, traffic in windows.traffic(self.clock())]
        older = everything.traffic.without(Traffic.merge_all([traffic for _, traffic in day]))
        return [(counted, older), *day]

    def _read(self) -> Reading:
        """All that was observed by now."""
        with self._states:
            self._settle()
            return self._reading()

    def _reading(self) -> Reading:
        return Reading(self.windows.copy(), self._folded, self._deep, self.since)

    def _settle(self) -> None:
        """Adds all that was observed to the windows and to everything: merging is what costs, so it is rare."""
        self._intake.close()
        self._fold()
        self._add()

    def _fold(self) -> None:
        """Adds what is full to the state of its time bucket, in the order in which it came."""
        while (full := self._intake.pop()) is not None:
            if full.begun != self._begun:
                self._add()
                self._begun = full.begun
            state = self._state(full.batch, full.features)
            self._recent = state if self._recent is None else self._recent.merge(state)

    def _add(self) -> None:
        if self._recent is not None:
            self._folded = self._folded.merge(self._recent)
            self.windows.add(self._recent, self._begun)
            self._recent = None

    def _state(self, batch: EncodedBatch, features: dict[int, Moments]) -> NormState:
        values = token_values(batch.norm_statistics, self.layers)
        traffic = self.summarize(batch) if self.summarize else Traffic.nothing()
        return NormState.of(len(batch.lengths), values, features, traffic, self.limits)
