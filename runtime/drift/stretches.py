"""When traffic changed: cut where it changed most, into stretches that are judged each by itself."""

# B time buckets, C classes, K numbers of a request

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from runtime.drift.detector import MIN_REQUESTS, SHARE_FLOOR, Reference, State, window_scores
from runtime.drift.numbers import Floats
from runtime.statistics.traffic import Traffic

LEAST_GAIN = 40.0  # of a cut, as the square of a standard normal number (docs/drift.md: what an operator is called for)
EVERY = 10.0  # seconds between two looks
SURE = 1.4  # times the threshold
INTERVAL = 3.84  # below the largest gain: a 95 % likelihood interval of where to cut

History = Sequence[tuple[float, Traffic]]  # when each bucket began (Unix seconds) and its traffic, oldest first


@dataclass(frozen=True, slots=True)
class Stretch:
    """Time that is judged alike throughout, in Unix seconds.

    Attributes:
        earliest, latest: between which its start lies, surely enough (95 %).
        sure: of drift, whether it exceeds a threshold by SURE: enough to call somebody for.
    """

    state: State
    start: float
    end: float
    earliest: float
    latest: float
    sure: bool


@dataclass(frozen=True, slots=True)
class Cut:
    """A place between two buckets, the gain of cutting there, and those places that are about as good."""

    place: int
    gain: float
    earliest: int
    latest: int


class Sums:
    """Running sums over buckets, from which those of any stretch are differences.

    Cutting follows binary segmentation (Scott & Knott 1974; Vostrikova 1981): the two sides of a cut are compared as
    windows are with the baseline: by the input, each layer, the output, each direction, and the mix of classes.
    """

    def __init__(self, reference: Reference, traffics: Sequence[Traffic]) -> None:
        self.reference = reference
        counts = np.array([traffic.counts for traffic in traffics])
        seen = np.flatnonzero(counts.any(0))  # of many classes, often few
        self.counts = running(counts[:, seen])
        totals = running([traffic.totals for traffic in traffics])
        self.residuals = (totals - self.counts @ reference.class_means[seen]) / np.sqrt(reference.variance)
        self.requests = self.counts.sum(1)

    def cuts(self, first: int, last: int) -> Iterator[Cut]:
        """Where to cut the buckets from `first` up to `last`, in their order."""
        best = self.best(first, last)
        if best is not None and best.gain > LEAST_GAIN:
            yield from self.cuts(first, best.place)
            yield best
            yield from self.cuts(best.place, last)

    def best(self, first: int, last: int) -> Cut | None:
        """The best place to cut; None where either side would hold too few requests to judge."""
        places = np.arange(first + 1, last)
        before, after = (self.requests[places] - self.requests[first], self.requests[last] - self.requests[places])
        places = places[(before >= MIN_REQUESTS) & (after >= MIN_REQUESTS)]
        if not len(places):
            return None
        gains = np.maximum(self.moved(first, places, last), self.remixed(first, places, last))
        good = places[gains >= gains.max() - INTERVAL]
        return Cut(int(places[gains.argmax()]), float(gains.max()), int(good.min()), int(good.max()))

    def moved(self, first: int, places: np.ndarray, last: int) -> Floats:
        """How far the sides of each place lie apart, at whatever shows it most."""
        (n, one), (m, other) = self.sides(self.residuals, first, places, last)
        z = (other / m - one / n) / np.sqrt(1 / n + 1 / m)
        scores = window_scores(z, self.reference.precision, self.reference.directions)
        scores[:, self.reference.places :] **= 2
        gains: Floats = scores.max(1)
        return gains

    def remixed(self, first: int, places: np.ndarray, last: int) -> Floats:
        """How unlike the mixes of classes on both sides of each place are: chi-square, as the square of a normal number
        (Wilson & Hilferty 1931)."""
        (n, one), (m, other) = self.sides(self.counts, first, places, last)
        difference = np.sqrt(m / n) * one - np.sqrt(n / m) * other
        chi_square = (np.square(difference) / np.maximum(one + other, 1)).sum(1)
        free = np.maximum(((one + other) > 0).sum(1) - 1, 1)
        normal = (np.cbrt(chi_square / free) - 1 + 2 / (9 * free)) / np.sqrt(2 / (9 * free))
        gains: Floats = np.square(np.maximum(normal, 0.0))
        return gains

    def sides(
        self, sums: Floats, first: int, places: np.ndarray, last: int
    ) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats]]:
        """Requests and sums before and after each place."""
        n, m = (self.requests[places] - self.requests[first], self.requests[last] - self.requests[places])
        return (n[:, None], sums[places] - sums[first]), (m[:, None], sums[last] - sums[places])


def running(rows: Sequence[np.ndarray] | np.ndarray) -> Floats:
    """Sums of the first 0, 1, ... B rows [B + 1, ...]."""
    return np.cumsum([np.zeros_like(rows[0], dtype=np.float64), *rows], axis=0)


def stretches(reference: Reference, history: History, end: float) -> list[Stretch]:
    """The stretches of a time that ends at `end`, oldest first; neighbours that are judged alike are one."""
    history = [(start, traffic) for start, traffic in history if traffic.requests]
    if not history:
        return []
    starts = [*(start for start, _ in history), end]
    traffics = [traffic for _, traffic in history]
    cuts = [Cut(0, 0.0, 0, 0), *Sums(reference, traffics).cuts(0, len(traffics))]
    found: list[Stretch] = []
    before: Traffic | None = None
    for cut, stop in zip(cuts, [*(cut.place for cut in cuts[1:]), len(traffics)], strict=True):
        traffic = Traffic.merge_all(traffics[cut.place : stop])
        state, sure = judged(reference, before, traffic)
        before = traffic
        if found and found[-1].state == state:
            found[-1] = replace(found[-1], end=starts[stop], sure=sure or found[-1].sure)
        else:
            start, over, earliest, latest = (starts[at] for at in (cut.place, stop, cut.earliest, cut.latest))
            found.append(Stretch(state, start, over, earliest, latest, sure))
    return found


def judged(reference: Reference, before: Traffic | None, traffic: Traffic) -> tuple[State, bool]:
    """The state of a stretch, and whether its drift is sure."""
    if before is not None and risen(reference, before, traffic):
        return "drift", True
    found = reference.judge(traffic)
    return found.state, bool((found.fired & (found.scores > SURE * found.thresholds)).any())


def risen(reference: Reference, before: Traffic, after: Traffic) -> bool:
    """Whether requests are more unlike the baseline than those before: surer than the baseline itself can tell, once
    there were more of them than it has."""
    if reference.unlikeness is None:
        return False
    one, other = (reference.residual(each)[-1] for each in (before, after))
    gain = (other - one) ** 2 / sum(reference.sampling(each.effective)[-1] for each in (before, after))
    return bool(gain > LEAST_GAIN and reference.unlikeness.share(min(other, other - one)) > SHARE_FLOOR)


class Stretches:
    """The stretches of the traffic so far, found anew after EVERY seconds: it takes some milliseconds.

    Args:
        history: buckets of what is known, oldest first.
        clock: Unix seconds.
    """

    def __init__(self, history: Callable[[], History], clock: Callable[[], float]) -> None:
        self.history, self.clock = history, clock
        self._last: tuple[tuple[int, float], list[Stretch]] | None = None  # the last question, and its answer

    def up_to(self, reference: Reference | None, end: float) -> list[Stretch]:
        """The stretches before `end` (Unix seconds); none where there is no reference."""
        if reference is None:
            return []
        asked = (id(reference), min(end, self.clock()) // EVERY)  # windows of the present end a little later or earlier
        if self._last is None or self._last[0] != asked or not self._last[1]:
            history = [(start, traffic) for start, traffic in self.history() if start < end]
            self._last = (asked, stretches(reference, history, end))
        return self._last[1]
