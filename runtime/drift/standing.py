"""Since when traffic has been as it is."""

from collections.abc import Callable, Sequence

from runtime.drift.detector import MIN_REQUESTS, Reference, State
from runtime.statistics.traffic import Traffic


class Standing:
    """Since when traffic has been in the state that it is judged to be in.

    Looked up anew once in a time bucket: going through a day of traffic takes some milliseconds.

    Args:
        history: when each bucket began (Unix seconds) and its traffic, newest first.
        bucket: number of the time bucket that is filling.
    """

    def __init__(self, history: Callable[[], Sequence[tuple[float, Traffic]]], bucket: Callable[[], float]) -> None:
        self.history, self.bucket = history, bucket
        self._last: tuple[tuple[State, int, float], float] | None = None  # the last question, and its answer

    def since(self, reference: Reference | None, state: State) -> float | None:
        """Unix seconds; None where traffic is not in `state` now, or there is no reference."""
        if reference is None:
            return None
        asked = (state, id(reference), self.bucket())
        if self._last is not None and self._last[0] == asked:
            return self._last[1]
        since = standing_since(reference, self.history(), state)
        self._last = (asked, since) if since is not None else None
        return since


def standing_since(reference: Reference, history: Sequence[tuple[float, Traffic]], state: State) -> float | None:
    """When the stretch of time began that reaches to now and is judged to be in `state` throughout.

    Goes back in steps of at least 30 requests and a tenth of the way, which bounds both noise and work.

    Args:
        history: when each bucket began (Unix seconds) and its traffic, newest first.
    """
    since, step = None, Traffic.nothing()
    for start, traffic in history:
        step = step.merge(traffic)
        newest, end = history[0][0], history[0][0] if since is None else since
        if step.counts.sum() < MIN_REQUESTS or (since is not None and end - start < (newest - start) / 10):
            continue
        if reference.judge(step).state != state:
            break
        since, step = start, Traffic.nothing()
    return since
