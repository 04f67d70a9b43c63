"""What norm statistics can be asked, wherever they are kept, and of which stretch of time."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple, Protocol, TypeAlias

from runtime.drift.detector import State
from runtime.errors import InvalidInput
from runtime.graph.batch import EncodedBatch
from runtime.statistics.deep import DeepState
from runtime.statistics.fleet import Content
from runtime.statistics.recorder import Place
from runtime.statistics.windows import Span
from runtime.store.sqlite import Storage
from runtime.words import quoted, shortened
from service.schemas.norm_stats import FleetStatus, Overhead

VERSION = "version:"

NAMED = {"5m": 300, "1h": 3600, "24h": 86400}
ALL, AUTO = "all", "auto"
PRESENT, PRESENT_REQUESTS = 3600, 1000  # auto: the last so many seconds, or requests where that is longer
NAMES = (AUTO, *NAMED, ALL)
CHOICES = ", ".join(NAMES)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

WINDOW = "1h"


class WindowQuery(NamedTuple):
    """The stretch of time that a client asks for, and of which replicas, in its own words; `parse_window` reads it."""

    window: str | None = None
    start: str | None = None
    end: str | None = None
    scope: str | None = None


class AllLayers(NamedTuple):
    """Every layer, in network order."""

    window: WindowQuery


class OneLayer(NamedTuple):
    """The same of one layer, with every feature. Raises UnknownLayer."""

    window: WindowQuery
    name: str


class MergeableState(NamedTuple):
    """The mergeable state behind the numbers."""

    window: WindowQuery


class History(NamedTuple):
    """A window slice by slice."""

    window: WindowQuery


class Comparison(NamedTuple):
    """A window against another one, or against what another version of the model saw. Raises StateError."""

    window: WindowQuery
    against: str


class TakeBaseline(NamedTuple):
    """Makes a window of live traffic the new baseline, beside the old ones. Raises InvalidInput if it holds little."""

    window: WindowQuery


class DropBaseline(NamedTuple):
    """Goes back to the baseline before. Raises InvalidInput if the artifact's own is in force."""


class Shared(NamedTuple):
    """What this replica counted since a sequence that it gave, for others of its fleet.

    Attributes:
        replica: the id that gave the sequence; another one is told everything.
    """

    replica: str
    sequence: int


Query: TypeAlias = Shared | AllLayers | OneLayer | MergeableState | History | Comparison | TakeBaseline | DropBaseline


class LayerSnapshot(NamedTuple):
    """One place in the network.

    Attributes:
        mean, variance: averages over tokens of each token's mean and variance where it enters the norm; None at the two
            ends of the network, and while there was no traffic.
        score, threshold: its drift, and from where on it counts as such; None where nothing can be judged.
    """

    name: str
    mean: float | None
    variance: float | None
    score: float | None
    threshold: float | None


class Status(NamedTuple):
    """Where a model's statistics are kept, and what they cost."""

    storage: Storage
    overhead: Overhead
    fleet: FleetStatus | None = None


class Snapshot(NamedTuple):
    """A model's statistics of the last hour.

    Attributes:
        state: the verdict's.
        requests: inputs that it is about.
        layers: input, every norm, output, all layers, unlikeness.
        alert: whether somebody should be called for.
        unlike: about the share of unlike requests.
        accuracy: the estimated share of right answers.
    """

    state: State
    requests: int
    layers: list[LayerSnapshot]
    status: Status
    alert: bool = False
    unlike: float | None = None
    accuracy: float | None = None


class Member(NamedTuple):
    """Another replica of this service.

    Attributes:
        name: host and port.
        since: when it began to count.
        heard: when it was last heard of. Both in Unix seconds.
        clock_offset: seconds that its clock is ahead; None where that is not known.
    """

    id: str
    name: str
    since: float
    heard: float
    clock_offset: float | None


class Delivery(NamedTuple):
    """What came from the other replicas.

    Attributes:
        contents: what all of them counted, merged, in each bucket that changed; None where nothing is left.
        since: when the first of them began to count; None where there is none.
        members: None where they could not be asked: those before are still the last that is known.
        trouble: what is wrong, in a sentence each; empty where nothing is.
        baselines: revision and contents of the newest that anyone took.
    """

    contents: Mapping[Place, Content | None]
    since: float | None
    members: tuple[Member, ...] | None
    trouble: str = ""
    baselines: tuple[int, tuple[bytes, ...]] | None = None


class Statistics(Protocol):
    """Where engines record observations and endpoints query them: a Collector of this process or of another.

    Attributes:
        workers: processes that record.
    """

    workers: int

    def start(self) -> None: ...
    def close(self) -> None: ...
    def observe(self, batch: EncodedBatch, seconds: float) -> None: ...
    def observe_deep(self, state: DeepState, seconds: float) -> None: ...

    def report(self, query: Query) -> bytes:
        """The answer as JSON, which crosses from process to process and out to the client as it is.

        Raises:
            AddNormError: the query cannot be answered; says why.
        """

    def snapshot(self) -> Snapshot:
        """The few numbers of the last hour that are worth watching all the time."""

    def status(self) -> Status:
        """Storage and cost. Cheap enough to ask often: no window is merged."""


def parse_window(
    window: str | None, start: str | None, end: str | None, now: float, name: str = "window"
) -> Span | None:
    """The span that is asked for; None for all traffic.

    Args:
        window: 5m, 1h, 24h or all; `auto` is for the recorder to say (Collector).
        start: ISO 8601 (UTC where it names no zone) or Unix seconds; excludes `window`.
        end: the same; now where it is missing.
        now: Unix seconds.
        name: what the client calls the window, for the error.

    Raises:
        InvalidInput: it names no window, or nothing lies in it.
    """
    if start is None and end is None:
        if window is None or window == ALL:
            return None
        if window not in NAMED:
            raise InvalidInput("invalid_window", f"{name} is {quoted(window)}, expected one of {CHOICES}.")
        return Span(now - NAMED[window], now)
    if window is not None:
        raise InvalidInput("invalid_window", "window is given together with from or to, expected one or the other.")
    if start is None:
        raise InvalidInput("invalid_window", "to is given without from, expected both, or from alone.")
    span = Span(parse_time("from", start), min(parse_time("to", end), now) if end is not None else now)
    if not span.start < span.end:
        message = f"from ({shortened(start)}) is not before to ({shortened(end or 'now')}), expected an earlier time."
        raise InvalidInput("invalid_window", message)
    return span


def parse_time(name: str, value: str) -> float:
    """Unix seconds of an ISO 8601 time or of a number."""
    try:
        seconds = float(value)
    except ValueError:
        try:
            moment = datetime.fromisoformat(value.replace(" ", "+"))  # a plus sign in a URL arrives as a space
        except ValueError:
            message = f"{name} is {quoted(value)}, expected ISO 8601 such as 2026-01-31T14:05:00Z, or Unix seconds."
            raise InvalidInput("invalid_window", message) from None
        seconds = (moment - EPOCH if moment.tzinfo else moment.replace(tzinfo=UTC) - EPOCH).total_seconds()
    if not 0 <= seconds < 1e11:
        message = f"{name} is {shortened(value)}, expected a time from 1970 on, before the year 5138."
        raise InvalidInput("invalid_window", message)
    return seconds
