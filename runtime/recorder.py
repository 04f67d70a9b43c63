"""Records what every norm sees while a model answers: cheap per batch, exact when read."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

from runtime.batch import EncodedBatch, join
from runtime.deep import DeepState
from runtime.drift import Reference, State, standing_since
from runtime.manifest import NormLayer
from runtime.moments import Moments
from runtime.statistics import NormState, Traffic, feature_state, token_values
from runtime.windows import Bucket, Span, Windows

FOLD_TOKENS = 4096  # folding many tokens at once costs a tenth of folding every batch


def steady_clock() -> Callable[[], float]:
    """Unix seconds that go on evenly, whatever is done to the system's clock."""
    offset = time.time() - time.monotonic()
    return lambda: offset + time.monotonic()


@dataclass(slots=True)
class Costs:
    """Where the time went since `started`, in seconds.

    Attributes:
        serving: running the served graph.
        recording: adding up what it said.
        deep: running the deep graph beside it.
    """

    started: float
    serving: float = 0.0
    recording: float = 0.0
    deep: float = 0.0


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


class NormRecorder:
    """Adds batches to a state of all traffic and to time windows. Several threads may observe while others read.

    Batches are held as they come and folded every few thousand tokens, when a time bucket ends, and when read.

    Args:
        reference: what drift is judged by; without one, traffic is not summed up for it.
        clock: Unix time in seconds, never going back.
    """

    def __init__(
        self, layers: list[NormLayer], reference: Reference | None = None, clock: Callable[[], float] | None = None
    ) -> None:
        self.layers, self.reference, self.clock = layers, reference, clock or steady_clock()
        self.batch_norms = [index for index, layer in enumerate(layers) if layer.kind == "batch_norm"]
        self.windows = Windows(layers)
        self.since = self.clock()
        self.costs = Costs(self.since)
        self._folded, self._deep = NormState.empty(layers), DeepState.empty(layers)
        self._held: list[EncodedBatch] = []
        self._held_tokens = 0
        self._held_since = self.since
        self._lock = threading.Lock()

    def observe(self, batch: EncodedBatch, seconds: float = 0.0) -> None:
        """Counts every request and every valid token of `batch`, which took `seconds` to run."""
        started = time.perf_counter()
        with self._lock:
            now = self.clock()
            if self._held and now // self.windows.resolution != self._held_since // self.windows.resolution:
                self._fold()
            if not self._held:
                self._held_since = now
            self._held.append(batch)
            self._held_tokens += len(batch.norm_statistics)
            if self._held_tokens >= FOLD_TOKENS:
                self._fold()
            self.costs.serving += seconds
            self.costs.recording += time.perf_counter() - started

    def observe_deep(self, state: DeepState, seconds: float) -> None:
        """Counts a deep look at some of the traffic, which took `seconds`."""
        with self._lock:
            self._deep = self._deep.merge(state)
            self.windows.add_deep(state, self.clock())
            self.costs.deep += seconds

    def resume(self, state: NormState, deep: DeepState | None, since: float, buckets: list[Bucket]) -> None:
        """Goes on from what an earlier process counted since `since` (Unix seconds)."""
        with self._lock:
            self._folded = state.merge(self._folded)
            self._deep = deep.merge(self._deep) if deep else self._deep
            self.since = since
            self.windows.resume(buckets)

    def state(self) -> NormState:
        """The statistics of everything observed so far."""
        return self.window(None).state

    def window(self, span: Span | None) -> Recorded:
        """What was recorded in the time buckets that overlap `span`; None for everything."""
        with self._lock:
            self._fold()
            now = self.clock()
            if span is None:
                return Recorded(Span(self.since, now), self._folded, self._deep, self._folded)
            covered, state = self.windows.window(span, now)
            return Recorded(covered, state, self.windows.deep_window(span, now), self._folded)

    def buckets(self, since: dict[str, int]) -> list[Bucket]:
        """The time buckets that may have changed, given the newest of each ring that the reader has."""
        with self._lock:
            self._fold()
            return self.windows.buckets(since)

    def standing_since(self, state: State) -> float | None:
        """Since when (Unix seconds) traffic is judged to be in `state`; None where it is not now."""
        with self._lock:
            self._fold()
            history = self.windows.traffic(self.clock())
        return standing_since(self.reference, history, state) if self.reference else None

    def _fold(self) -> None:
        if not self._held:
            return
        held = join(self._held)
        values = token_values(held.norm_statistics, self.layers)
        traffic = self.reference.traffic(held) if self.reference else Traffic.nothing()
        state = NormState.of(len(held.lengths), values, self._features(), traffic)
        self._folded = self._folded.merge(state)
        self.windows.add(state, self._held_since)
        self._held, self._held_tokens = [], 0

    def _features(self) -> dict[int, Moments]:
        """BatchNorm layers: the held batches' moments of every feature, by layer index."""
        return {
            index: reduce(
                Moments.merge,
                (feature_state(batch.feature_moments[place], len(batch.norm_statistics)) for batch in self._held),
            )
            for place, index in enumerate(self.batch_norms)
        }
