"""What a model answered, as numbers that add up over processes; the inference statistics are made of them."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from service.batching.batcher import BatchCounters


@dataclass(slots=True)
class BatchCounts:
    """Batches of one size; times in nanoseconds.

    Attributes:
        pack_ns, infer_ns, record_ns: packing rows, running the graph, counting what the norms saw.
    """

    executions: int = 0
    pack_ns: int = 0
    infer_ns: int = 0
    record_ns: int = 0

    def merge(self, other: "BatchCounts") -> "BatchCounts":
        return BatchCounts(
            self.executions + other.executions,
            self.pack_ns + other.pack_ns,
            self.infer_ns + other.infer_ns,
            self.record_ns + other.record_ns,
        )


@dataclass(slots=True)
class InferenceCounts:
    """Requests of one model, from when they were understood to when their answer was written; times in nanoseconds.

    Requests are counted in the event loop and batches where they run, so that no number has two writers.

    Attributes:
        requests, rows: that were answered, and their inputs.
        total_ns: from the request's last byte to the answer's last.
        input_ns, queue_ns, infer_ns, output_ns: parsing and tokenizing, waiting for other batches, the batches that
            held its rows, writing the answer.
        failed, failed_ns: requests that were understood and not answered, whatever the reason.
        last_ms: when the last one was answered; Unix milliseconds, 0 before.
        batches: what was run, by rows in a batch.
    """

    requests: int = 0
    rows: int = 0
    total_ns: int = 0
    input_ns: int = 0
    queue_ns: int = 0
    infer_ns: int = 0
    output_ns: int = 0
    failed: int = 0
    failed_ns: int = 0
    last_ms: int = 0
    batches: dict[int, BatchCounts] = field(default_factory=dict)

    @property
    def executions(self) -> int:
        return sum(batch.executions for batch in list(self.batches.values()))

    def answer(self, rows: int, total: float, read: float, queue: float, infer: float, written: float) -> None:
        """Counts an answered request; times in seconds."""
        self.requests += 1
        self.rows += rows
        self.total_ns += int(total * 1e9)
        self.input_ns += int(read * 1e9)
        self.queue_ns += int(queue * 1e9)
        self.infer_ns += int(infer * 1e9)
        self.output_ns += int(written * 1e9)
        self.last_ms = int(time.time() * 1000)

    def fail(self, total: float) -> None:
        """Counts a request that was not answered; seconds."""
        self.failed += 1
        self.failed_ns += int(total * 1e9)

    def run(self, rows: int, pack: float, infer: float, record: float) -> None:
        """Counts a batch that ran; times in seconds."""
        batch = self.batches.get(rows)
        if batch is None:
            batch = self.batches[rows] = BatchCounts()
        batch.executions += 1
        batch.pack_ns += int(pack * 1e9)
        batch.infer_ns += int(infer * 1e9)
        batch.record_ns += int(record * 1e9)

    def merge(self, other: "InferenceCounts") -> "InferenceCounts":
        """What both counted together."""
        batches = dict(self.batches)
        for rows, batch in other.batches.copy().items():
            batches[rows] = batches.get(rows, BatchCounts()).merge(batch)
        added = {name: getattr(self, name) + getattr(other, name) for name in SUMS}
        return InferenceCounts(**added, last_ms=max(self.last_ms, other.last_ms), batches=batches)


SUMS = (
    "requests",
    "rows",
    "total_ns",
    "input_ns",
    "queue_ns",
    "infer_ns",
    "output_ns",
    "failed",
    "failed_ns",
)
Inferences = dict[str, InferenceCounts]  # what was answered, by the artifact's digest


def add_up(several: Iterable[Inferences]) -> Inferences:
    """The sum of all counts."""
    total = Inferences()
    for inferences in several:
        for digest, counts in inferences.items():
            total[digest] = total.get(digest, InferenceCounts()).merge(counts)
    return total


class Counted:
    """The counts of every engine that a process ever had; those of one that is gone stay, and may still grow.

    Attributes:
        ran: what their batchers ran.
    """

    def __init__(self) -> None:
        self.ran: list[BatchCounters] = []
        self._counts: dict[str, list[InferenceCounts]] = {}  # by the artifact's digest
        self._told: dict[str, int] = {}  # how far they were when they were told

    def add(self, digest: str, counts: InferenceCounts, ran: BatchCounters) -> None:
        """Counts one more engine, once however often it is added."""
        there = self._counts.setdefault(digest, [])
        if not any(each is counts for each in there):
            there.append(counts)
            self.ran.append(ran)

    def changed(self) -> Inferences:
        """All that was ever counted with each artifact of which something was counted since the last call."""
        found = Inferences()
        for digest, there in self._counts.items():
            progress = sum(each.requests + each.failed + each.executions for each in there)  # it never goes back
            if progress != self._told.get(digest, 0):
                self._told[digest] = progress
                found |= add_up({digest: each} for each in there)
        return found
