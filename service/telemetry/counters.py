"""What one process answered, counted on the way at the least possible cost.

A process counts in plain lists. Four times a second it hands a snapshot of all it ever counted to the aggregator, which
adds up processes; so nothing is counted twice, and a lost snapshot costs nothing.
"""

import os
import time
from array import array
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from starlette.types import Scope

from service.batching.batcher import ROW_BOUNDS, BatchCounters, Batcher

# upper bounds of the latency buckets in seconds, each 1.6 times the one before; above the last lies another bucket
BOUNDS = (*(float(f"{digits}e{power}") for power in range(-5, 1) for digits in (1, 1.6, 2.5, 4, 6.3)), 10.0)
PENDING = 256  # answers; counting them takes 20 us
CLIENT_CLOSED_REQUEST = 499  # in the place of a status where a client left before its answer, as nginx has it
OTHER = "other"  # the route of what is no route
PREDICT = "/predict"
PROTOCOLS = ("http", "grpc")
GRPC_ROUTES = ("/inference.", "/addnorm.", "/grpc.")  # begin with the name of a package
REASONS = {
    400: "invalid",
    401: "unauthorized",
    413: "too_large",
    422: "invalid",
    429: "overloaded",
    499: "abandoned",
    500: "defect",
    503: "unavailable",
    504: "deadline",
}
STATM = Path("/proc/self/statm")

Headers = list[tuple[bytes, bytes]]  # of a request or a response, as ASGI has them: names in small letters


class Phases(NamedTuple):
    """When an answered request began (`time.perf_counter`), and how long its phases took: seconds.

    `total` has what is between them too; `stats` is within `infer`.
    """

    started: float
    parse: float
    tokenize: float
    queue: float
    infer: float
    serialize: float
    total: float
    stats: float


PHASES = Phases._fields[1:-1]  # those that are counted
EDGES = np.array(BOUNDS)
ROWS = np.arange(len(PHASES)) * (len(BOUNDS) + 1)  # where the buckets of each phase begin, in one row of all


def server_timing(phases: Phases) -> bytes:
    """The header that says where an answer's time went: milliseconds, to the microsecond (W3C Server Timing)."""
    _, parse, tokenize, queue, infer, serialize, _, _ = phases
    return b"parse;dur=%.3f, tokenize;dur=%.3f, queue;dur=%.3f, infer;dur=%.3f, serialize;dur=%.3f" % (
        1e3 * parse,
        1e3 * tokenize,
        1e3 * queue,
        1e3 * infer,
        1e3 * serialize,
    )


@dataclass(slots=True)
class Tally:
    """All that was counted up to some moment; tallies of several processes add up.

    Attributes:
        requests: by route and status.
        latencies: answered inference requests by phase and bucket [PHASES, BOUNDS + 1].
        seconds: sum of each phase [PHASES].
        batch_rows: batches by their rows [ROW_BOUNDS + 1].
        rows, tokens: that ran.
        computed_tokens: those, and the padding between them.
        cpu_seconds: of the processes.
    """

    requests: Counter[tuple[str, int]]
    latencies: NDArray[np.int64]
    seconds: NDArray[np.float64]
    batch_rows: NDArray[np.int64]
    rows: int = 0
    tokens: int = 0
    computed_tokens: int = 0
    cpu_seconds: float = 0.0

    @classmethod
    def nothing(cls) -> Self:
        return cls(
            Counter(),
            np.zeros((len(PHASES), len(BOUNDS) + 1), dtype=np.int64),
            np.zeros(len(PHASES)),
            np.zeros(len(ROW_BOUNDS) + 1, dtype=np.int64),
        )

    def __add__(self, other: Self) -> Self:
        return type(self)(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))

    def __sub__(self, earlier: Self) -> Self:
        """What came since an earlier tally of the same processes."""
        return type(self)(*(getattr(self, each.name) - getattr(earlier, each.name) for each in fields(self)))

    @property
    def refusals(self) -> Counter[str]:
        """Requests that were not answered, by reason."""
        found: Counter[str] = Counter()
        for (_, status), count in self.requests.items():
            if status in REASONS:
                found[REASONS[status]] += count
        return found


class Gauges(NamedTuple):
    """Gauges at one moment; those of several processes add up.

    Attributes:
        in_flight: requests that are being answered.
        queue_requests, queue_tokens: that wait to run.
        resident_bytes: memory in use, pages that processes share counted for each; 0 where it cannot be told.
    """

    in_flight: int = 0
    queue_requests: int = 0
    queue_tokens: int = 0
    resident_bytes: int = 0

    def __add__(self, other: object) -> "Gauges":
        assert isinstance(other, Gauges)
        return Gauges(*map(sum, zip(self, other, strict=True)))


class RequestCounters:
    """Counts what this process answers. Only its event loop writes, so no lock is needed.

    Attributes:
        requests: by route and status.
        in_flight: requests that are being answered.
    """

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.in_flight = 0
        self._pending = array("d")  # phases of answers that are not counted yet
        self._phases = Tally.nothing()

    def observe(self, phases: Phases) -> None:
        """Counts the phases of an inference request that was answered: keeps them here, and counts many at a time."""
        self._pending.extend(phases[1:-1])
        if len(self._pending) >= PENDING * len(PHASES):
            self._count()

    def _count(self) -> None:
        pending, self._pending = self._pending, array("d")
        seconds = np.frombuffer(pending).reshape(-1, len(PHASES))
        self._phases.seconds += seconds.sum(0)
        latencies = self._phases.latencies
        places = (np.searchsorted(EDGES, seconds) + ROWS).ravel()
        latencies += np.bincount(places, minlength=latencies.size).reshape(latencies.shape)

    def snapshot(self, batchers: Iterable[Batcher], ran: Collection[BatchCounters] = ()) -> tuple[Tally, Gauges]:
        """All that was counted by now, and the gauges now.

        Args:
            batchers: of the models that are loaded.
            ran: what all models ran, those that are gone included: one may come and go between two snapshots.
        """
        self._count()
        tally = Tally(
            self.requests.copy(),
            self._phases.latencies.copy(),
            self._phases.seconds.copy(),
            np.array([each.batch_rows for each in ran], dtype=np.int64).reshape(-1, len(ROW_BOUNDS) + 1).sum(0),
            sum(each.rows for each in ran),
            sum(each.tokens for each in ran),
            sum(each.computed_tokens for each in ran),
            time.process_time(),
        )
        queues = [batcher.queue for batcher in batchers]
        waiting = sum(each.requests for each in queues), sum(each.tokens for each in queues)
        return tally, Gauges(self.in_flight, *waiting, resident_bytes())


def protocol_of(route: str) -> str:
    """What a request came by."""
    return "grpc" if route.startswith(GRPC_ROUTES) else "http"


def route_of(scope: Scope) -> str:
    """The path of the route that answered, with names in the place of what the client chose."""
    if (route := scope.get("route")) is not None:
        return route.path  # type: ignore[no-any-return]
    return PREDICT if scope["path"] == PREDICT else OTHER  # what is refused comes to no route


def resident_bytes() -> int:
    """Memory that this process has in use; 0 where the system does not tell."""
    try:
        return int(STATM.read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
