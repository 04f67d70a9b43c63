"""What was measured of one artifact on one machine, and the worker that is simulated from it."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.capacity.simulate import Worker

# Of a frame: Ethernet with its preamble and gap (38), IP (20), TCP with timestamps (32); IEEE 802.3, RFC 791, RFC 7323.
FRAME_BYTES, FRAME_PAYLOAD = 90, 1448


@dataclass(frozen=True, slots=True)
class GraphTime:
    """The time of a batch of n tokens, fitted: batch + token x n, in seconds.

    Attributes:
        worst: largest deviation of a median from it, as a share.
    """

    batch: float
    token: float
    worst: float


@dataclass(frozen=True, slots=True)
class BatchTime:
    """The CPU time of a service for a batch of n requests, fitted: batch + request x n, in seconds.

    Attributes:
        worst: largest deviation from it, as a share.
    """

    batch: float
    request: float
    worst: float


@dataclass(frozen=True, slots=True)
class Served:
    """One run of a service; seconds.

    Attributes:
        workers, rows: of the service, of each request.
        load: share of its capacity that was asked for; 1 where a closed loop asked for all it can.
        offered, answered: requests a second.
        p50, p99: of the latency from when a request was due.
        cpu: of all processes of the service, a request.
        batch: requests in a batch, on average.
        late: after which 99 % of the requests were sent at most, from when they were due.
        generator: share of a core that the load took.
    """

    workers: int
    rows: int
    load: float
    offered: float
    answered: float
    p50: float
    p99: float
    cpu: float
    batch: float
    late: float = 0.0
    generator: float = 0.0


class Answered(NamedTuple):
    """What clients saw of one service; the attributes are those of Costs."""

    alone: float
    served: BatchTime
    most: Served
    request_bytes: float
    response_bytes: float


@dataclass(frozen=True, slots=True)
class Costs:
    """What one artifact takes on one core; seconds, and bytes.

    Attributes:
        rows: of a request.
        lengths: tokens of the texts.
        tokenize: a text.
        graph: batches, in a process of its own.
        max_batch_tokens: that the service runs together.
        norms: whose statistics it keeps.
        alone: a request of one client that waits for each answer; median.
        served: batches of a worker, with everything around the graph.
        most: what 32 such clients get of one worker.
        request_bytes, response_bytes: with their HTTP headers, on average.
        base_memory, worker_memory: of a service with no worker, and of each; PSS.
        start: from exec to the first answer.
        pauses: for which a core stood still in `watched` seconds in which nothing else ran on it.
        machine: in words, with the date.
    """

    rows: int
    lengths: list[int]
    tokenize: float
    graph: GraphTime
    max_batch_tokens: int
    norms: int
    alone: float
    served: BatchTime
    most: Served
    request_bytes: float
    response_bytes: float
    base_memory: float
    worker_memory: float
    start: float
    pauses: list[float]
    watched: float
    machine: str

    @property
    def tokens(self) -> float:
        """Of a request, on average."""
        return self.rows * float(np.mean(self.lengths))

    @property
    def outside(self) -> float:
        """Seconds of a request outside the graph: what one more takes in a batch, less what the graph takes for it."""
        return max(self.served.request - self.graph.token * self.tokens, self.rows * self.tokenize)

    def worker(self, pauses: bool = True) -> Worker:
        """What is simulated: a request is tokenized before its batch, and half of all else outside is done before."""
        around = (self.outside - self.rows * self.tokenize) / 2
        return Worker(
            read=self.rows * self.tokenize + around,
            write=around,
            batch=self.served.batch,
            token=self.graph.token,
            max_batch_tokens=self.max_batch_tokens,
            pauses=tuple(self.pauses) if pauses else (),
            pause_rate=len(self.pauses) / self.watched,
        )

    @property
    def wire(self) -> float:
        """Seconds that one client waits beside the work: the kernel, waking up, and the client's own reading."""
        return max(0.0, self.alone - self.worker().alone(self.tokens))

    def wire_bytes(self) -> tuple[float, float]:
        """Bytes of a request and of its answer, with the headers of their frames; each way also one empty receipt."""
        sizes = (self.request_bytes, self.response_bytes)
        sent, received = (size + FRAME_BYTES * (math.ceil(size / FRAME_PAYLOAD) + 1) for size in sizes)
        return sent, received

    def frames(self) -> int:
        """Of a request, its answer and their receipts."""
        return sum(math.ceil(size / FRAME_PAYLOAD) + 1 for size in (self.request_bytes, self.response_bytes))


@dataclass(frozen=True, slots=True)
class Measured:
    """What a plan is made of, and what the simulation is held against.

    Attributes:
        loads: of one worker, at shares of its capacity.
    """

    costs: Costs
    loads: list[Served]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def read(cls, path: Path) -> "Measured":
        """What `to_json` gave, in a file.

        Raises:
            SystemExit: it is something else.
        """
        try:
            found = json.loads(path.read_text())["measured"]
            costs = found["costs"]
            parts = {"graph": GraphTime, "served": BatchTime, "most": Served}
            costs |= {name: part(**costs[name]) for name, part in parts.items()}
            return cls(Costs(**costs), [Served(**load) for load in found["loads"]])
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise SystemExit(f"{path} holds no measured costs ({error!r}): measure again, without it.") from None


def fit(tokens: Sequence[float], seconds: Sequence[float]) -> GraphTime:
    """The line through medians of batches of so many tokens."""
    return GraphTime(*line(tokens, seconds))


def fit_served(loops: Sequence[Served]) -> BatchTime:
    """The line through the CPU times of batches, as closed loops of few and of many clients have filled them."""
    return BatchTime(*line([loop.batch for loop in loops], [loop.cpu * loop.batch for loop in loops]))


def line(sizes: Sequence[float], seconds: Sequence[float]) -> tuple[float, float, float]:
    """Where the line begins, its slope, and the largest deviation: least squares of relative deviations.

    Relative ones, for a batch of one text counts as much as one of 64: under light load there are no others.
    """
    x, y = np.array(sizes, dtype=float), np.array(seconds, dtype=float)
    slope, start = np.polyfit(x, y, 1, w=1 / y)
    if start < 0:  # no cost of its own: the line through 0
        start, slope = 0.0, float((x / y).sum() / ((x / y) ** 2).sum())
    predicted: NDArray[np.float64] = start + slope * x
    return float(start), float(slope), float(np.abs(predicted / y - 1).max())
