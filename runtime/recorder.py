"""Records what every norm sees while a model answers: cheap per batch, exact when read."""

import threading
import time
from collections.abc import Callable

from runtime.drift import Reference, State, standing_since
from runtime.encoder import EncodedBatch, join
from runtime.manifest import NormLayer
from runtime.moments import Moments
from runtime.statistics import NormState, Traffic, feature_state, token_values
from runtime.windows import Span, Windows

FOLD_TOKENS = 4096  # folding many tokens at once costs a tenth of folding every batch


def steady_clock() -> Callable[[], float]:
    """Unix seconds that go on evenly, whatever is done to the system's clock."""
    offset = time.time() - time.monotonic()
    return lambda: offset + time.monotonic()


class NormRecorder:
    """Adds batches to a state of all traffic and to time windows. One thread may observe while others read.

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
        self._folded = NormState.empty(layers)
        self._held: list[EncodedBatch] = []
        self._held_tokens = 0
        self._held_since = self.since
        self._lock = threading.Lock()

    def observe(self, batch: EncodedBatch) -> None:
        """Counts every request and every valid token of `batch`."""
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

    def resume(self, state: NormState, since: float) -> None:
        """Goes on from what an earlier process counted since `since` (Unix seconds); its windows are not kept."""
        with self._lock:
            self._folded = state.merge(self._folded)
            self.since = since

    def state(self) -> NormState:
        """The statistics of everything observed so far."""
        with self._lock:
            self._fold()
            return self._folded

    def window(self, span: Span) -> tuple[NormState, Span, NormState]:
        """The state of everything; what the time buckets that overlap `span` cover, and their state."""
        with self._lock:
            self._fold()
            return self._folded, *self.windows.window(span, self.clock())

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
        features: dict[int, Moments] = {}
        for batch in self._held:
            for index, moments in zip(self.batch_norms, batch.feature_moments, strict=True):
                seen = feature_state(moments, len(batch.norm_statistics))
                features[index] = features[index].merge(seen) if index in features else seen
        return features
