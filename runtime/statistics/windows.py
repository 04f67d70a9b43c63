"""Time windows over recorded statistics: rings of time buckets, each a state, merged when asked.

The last hour is in short buckets, the last day in longer ones: memory is bounded. An answer names the buckets it is of.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, Protocol, Self, TypeVar

from runtime.manifest import NormLayer
from runtime.statistics.deep import DeepState
from runtime.statistics.state import NormState, SparseState, merge_sparse
from runtime.statistics.traffic import Traffic

# seconds and number of the buckets of each ring, finest first; that keeps one more, for questions at a bucket's end
WINDOW, DEEP = "window", "deep"  # how the names of rings begin
SHAPES, DEEP_SHAPES = ((10, 361), (300, 289)), ((300, 13), (3600, 25))


class Mergeable(Protocol):
    def merge(self, other: Self) -> Self: ...


State = TypeVar("State", bound=Mergeable)
Compressed = TypeVar("Compressed")


class Span(NamedTuple):
    """A stretch of time in Unix seconds, start <= t < end."""

    start: float
    end: float


class Bucket(NamedTuple):
    """A time bucket to keep or to go on from.

    Attributes:
        ring: the name of its ring.
        number: its place in time, in lengths of its ring's buckets since 1970.
    """

    ring: str
    number: int
    content: SparseState | DeepState


class Ring(Generic[State, Compressed]):
    """Buckets of equal length, oldest first; the last one is filling.

    Args:
        seconds: length of a bucket.
        size: buckets kept.
        compress: makes small what a bucket holds, once it is over.
        expand: the opposite.
    """

    def __init__(
        self, seconds: int, size: int, compress: Callable[[State], Compressed], expand: Callable[[Compressed], State]
    ) -> None:
        self.seconds, self.size, self.kept, self.compress, self.expand = seconds, size, size, compress, expand
        self.closed: deque[tuple[int, Compressed]] = deque()
        self.filling: tuple[int, State] | None = None

    def add(self, state: State, when: float) -> None:
        """Adds a state to the bucket of Unix time `when`; time that goes backwards counts as the filling bucket's."""
        number = int(when // self.seconds)
        if self.filling is not None and number > self.filling[0]:
            self.closed.append((self.filling[0], self.compress(self.filling[1])))
            self.filling = None
        if self.filling is None:
            self.filling = number, state
        else:
            self.filling = self.filling[0], self.filling[1].merge(state)
        while self.closed and self.closed[0][0] <= number - self.kept:
            self.closed.popleft()

    def held(self) -> list[tuple[int, State | Compressed]]:
        """Number and content of every bucket, as it is."""
        return [*self.closed, *([self.filling] if self.filling is not None else [])]

    def oldest(self, now: float) -> float:
        """The time before which this ring has forgotten everything."""
        return (int(now // self.seconds) - self.kept + 1) * self.seconds

    def window(self, span: Span) -> tuple[Span, list[Compressed], State | None]:
        """The stretch that the buckets cover which overlap `span`, what the closed ones hold, and the filling one."""
        first, last = int(span.start // self.seconds), -int(-span.end // self.seconds)
        closed = [content for number, content in self.closed if first <= number < last]
        filling = self.filling[1] if self.filling is not None and first <= self.filling[0] < last else None
        return Span(first * self.seconds, last * self.seconds), closed, filling

    def put(self, contents: Mapping[int, Compressed | None], now: float) -> None:
        """Puts these in the place of what its buckets held; None leaves nothing there. All count as over.

        Buckets are kept for as long as before and after `now` as the ring is: no clock that is off pushes others out.
        """
        held, this = dict(self.closed) | dict(contents), int(now // self.seconds)
        known = ((number, held[number]) for number in sorted(held) if abs(number - this) < self.kept)
        self.closed = deque((number, content) for number, content in known if content is not None)

    def buckets(self, since: int) -> list[tuple[int, Compressed]]:
        """Number and content of every bucket from number `since` on."""
        filling = [(self.filling[0], self.compress(self.filling[1]))] if self.filling is not None else []
        return [(number, content) for number, content in [*self.closed, *filling] if number >= since]

    def resume(self, buckets: list[tuple[int, Compressed]]) -> None:
        """Adds buckets that another ring held; the newest goes on filling."""
        found = dict(self.buckets(0))
        for number, content in buckets:
            mine = found.get(number)
            found[number] = content if mine is None else self.compress(self.expand(mine).merge(self.expand(content)))
        *over, (number, newest) = sorted(found.items(), key=lambda entry: entry[0])
        self.closed = deque((n, content) for n, content in over if n > number - self.kept)
        self.filling = number, self.expand(newest)


def as_it_is(state: DeepState) -> DeepState:
    return state


def finest(rings: Sequence[Ring[State, Compressed]], start: float, now: float) -> Ring[State, Compressed]:
    """The finest ring that still knows the time `start`, else the coarsest."""
    return next((ring for ring in rings if start >= ring.oldest(now)), rings[-1])


def began(held: Sequence[tuple[float, int]], requests: int, now: float) -> float:
    """When the last so many requests began to come, in Unix seconds; as long ago as is known at most.

    Args:
        held: when each bucket began, oldest first, and its requests.
    """
    start = now
    for when, count in reversed(held):
        if requests <= 0:
            break
        start, requests = when, requests - count
    return start


class Windows:
    """An hour of traffic in buckets of 10 seconds, and a day of it in buckets of 5 minutes.

    What was looked at deeply is larger and rarer: an hour in buckets of 5 minutes, a day in buckets of an hour.
    """

    def __init__(self, layers: list[NormLayer]) -> None:
        self.layers = layers
        self.rings = tuple(Ring(*shape, SparseState.compress, SparseState.expand) for shape in SHAPES)
        self.deep_rings = tuple(Ring(*shape, as_it_is, as_it_is) for shape in DEEP_SHAPES)
        self.rings[0].kept, self.deep_rings[0].kept = SHAPES[0][1] + 1, DEEP_SHAPES[0][1] + 1
        rings: tuple[Ring[Any, Any], ...] = (*self.rings, *self.deep_rings)
        self.named = {self.name(ring): ring for ring in rings}

    @classmethod
    def sizes(cls) -> dict[str, int]:
        """How many buckets each ring keeps, by its name."""
        return {name: ring.size for name, ring in cls([]).named.items()}

    def copy(self) -> "Windows":
        """The same buckets, to be read while these go on filling: states do not change, they merge into new ones."""
        windows = Windows(self.layers)
        for name, ring in self.named.items():
            windows.named[name].closed, windows.named[name].filling = ring.closed.copy(), ring.filling
        return windows

    @property
    def resolution(self) -> int:
        """Seconds of the shortest bucket."""
        return self.rings[0].seconds

    def add(self, state: NormState, when: float) -> None:
        for ring in self.rings:
            ring.add(state, when)

    def add_deep(self, state: DeepState, when: float) -> None:
        for ring in self.deep_rings:
            ring.add(state, when)

    def numbers(self, since: Mapping[str, int]) -> list[tuple[str, int]]:
        """The ring and number of what `buckets` gives."""
        return [
            (name, number)
            for name, ring in self.named.items()
            for number, _ in ring.held()
            if number >= since.get(name, 0)
        ]

    def filling(self) -> dict[tuple[str, int], NormState | DeepState]:
        """What the buckets hold that are not over, by ring and number."""
        return {(name, ring.filling[0]): ring.filling[1] for name, ring in self.named.items() if ring.filling}

    def figures(self) -> dict[tuple[str, int], NormState]:
        """The same of traffic, without histograms."""
        filling = [(ring, ring.filling) for ring in self.rings if ring.filling]
        return {(self.name(ring), number): state.without_histograms() for ring, (number, state) in filling}

    def name(self, ring: Ring[Any, Any]) -> str:
        return f"{WINDOW if ring in self.rings else DEEP}-{ring.seconds}"

    def buckets(self, since: Mapping[str, int]) -> list[Bucket]:
        """Every ring's buckets from the number on that `since` gives for it."""
        return [
            Bucket(name, number, content)
            for name, ring in self.named.items()
            for number, content in ring.buckets(since.get(name, 0))
        ]

    def resume(self, buckets: list[Bucket], now: float) -> None:
        """Adds what `buckets` of other windows gave, but none of the future: those are of a clock that was wrong."""
        for name, ring in self.named.items():
            if kept := [(n, held) for of, n, held in buckets if of == name and n <= now // ring.seconds]:
                ring.resume(kept)

    def traffic(self, now: float) -> list[tuple[float, Traffic]]:
        """The day's traffic, oldest first: when each bucket began (Unix seconds), and what drift is judged by."""
        ring, oldest = self.rings[-1], self.rings[-1].oldest(now)
        return [(n * ring.seconds, state.traffic) for n, state in ring.held() if n * ring.seconds >= oldest]

    def requests(self, now: float) -> list[tuple[float, int]]:
        """When each bucket of the day began (Unix seconds), oldest first, and its requests."""
        ring = self.rings[-1]
        return [(max(float(n * ring.seconds), ring.oldest(now)), state.requests) for n, state in ring.held()]

    def history(self, span: Span, now: float) -> tuple[int, list[tuple[int, Traffic]]]:
        """Seconds of the buckets that overlap `span`, and those that hold traffic: number and traffic, oldest first."""
        ring = finest(self.rings, span.start, now)
        first, last = int(max(span.start, ring.oldest(now)) // ring.seconds), -int(-span.end // ring.seconds)
        return ring.seconds, [(number, state.traffic) for number, state in ring.held() if first <= number < last]

    def window(self, span: Span, now: float, histograms: bool = True) -> tuple[Span, NormState]:
        """The traffic of `span`, from the finest ring that still knows its beginning, else from the coarsest.

        Args:
            histograms: whether the state has any; without them it takes half the time.
        """
        ring = finest(self.rings, span.start, now)
        if span.end <= ring.oldest(now):
            return span, NormState.empty(self.layers)
        covered, closed, filling = ring.window(Span(max(span.start, ring.oldest(now)), span.end))
        state = merge_sparse(closed, self.layers, histograms)
        if filling is None:
            return covered, state
        return covered, state.merge(filling if histograms else filling.without_histograms())

    def deep_window(self, span: Span, now: float) -> DeepState:
        """What was looked at deeply in `span`, in whole buckets."""
        _, closed, filling = finest(self.deep_rings, span.start, now).window(span)
        parts = [*closed, *([filling] if filling is not None else [])]
        return DeepState.merge_all(parts) if parts else DeepState.empty(self.layers)
