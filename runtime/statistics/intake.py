"""Where observed batches wait to be folded: until there are many, their time bucket is over, or somebody reads."""

from collections import deque
from collections.abc import Callable, Sequence
from threading import Lock
from typing import NamedTuple

from runtime.graph.batch import EncodedBatch
from runtime.statistics.buffer import FeatureLimits, TokenBuffer, add_features
from runtime.statistics.moments import Moments


class Full(NamedTuple):
    """What is to be folded, and when its time bucket began to fill (Unix seconds)."""

    begun: float
    batch: EncodedBatch
    features: dict[int, Moments]


class Intake:
    """Takes batches from several threads. Its lock is held for microseconds: the event loop may wait for it.

    Args:
        columns, batch_norms, limits: of the buffer.
        resolution: seconds of a time bucket.
        now: Unix seconds.

    Attributes:
        latest: when something came last (Unix seconds).
    """

    def __init__(
        self, columns: int, batch_norms: Sequence[int], limits: FeatureLimits, resolution: int, now: float
    ) -> None:
        self.batch_norms, self.limits, self.resolution = batch_norms, limits, resolution
        self._buffer = TokenBuffer(columns, batch_norms, limits)
        self._full: deque[Full] = deque()
        self._lock, self.latest = Lock(), now
        self._begin(now)

    def add(self, batch: EncodedBatch, clock: Callable[[], float]) -> bool:
        """Copies what is needed of a batch; whether something became full.

        Args:
            clock: Unix seconds, never going back.
        """
        with self._lock:
            before, now = len(self._full), clock()
            self.latest = now
            if not self._begun <= now < self._ends:
                self._close()
                self._begin(now)
            if not self._buffer.add(batch):
                self._close()
                if not self._buffer.add(batch):  # more tokens at once than are ever held
                    features: dict[int, Moments] = {}
                    add_features(features, batch, self.batch_norms, self.limits)
                    self._full.append(Full(self._begun, batch, features))
            return len(self._full) > before

    def close(self) -> None:
        """What was taken by now is full."""
        with self._lock:
            self._close()

    def pop(self) -> Full | None:
        """The oldest that is full."""
        with self._lock:
            return self._full.popleft() if self._full else None

    def _close(self) -> None:
        if self._buffer.tokens:
            self._full.append(Full(self._begun, *self._buffer.take()))

    def _begin(self, now: float) -> None:
        """Starts the time bucket of `now`."""
        self._begun = now
        self._ends = (now // self.resolution + 1) * self.resolution
