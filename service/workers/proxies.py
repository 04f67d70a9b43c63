"""The collectors of the supervisor, as a worker sees them: it records there, and queries what all workers saw.

A worker writes an observation to its pipe before it answers its client, and the collector's process empties every pipe
before it answers a question. So whatever any client has had an answer for is in the statistics that a client asks for
afterwards, whichever worker either of them meets; and a worker that is killed loses nothing that it handed over.
"""

from dataclasses import replace
from typing import Any

from runtime.graph.batch import EncodedBatch
from runtime.statistics.deep import DeepState
from service.norm_stats.interface import Query, Snapshot, Status
from service.telemetry.aggregator import Report
from service.telemetry.counters import Gauges, Tally
from service.telemetry.inference_counts import Inferences
from service.workers.channel import PARENT, WorkerEnd


class RemoteCollector:
    """What an engine takes for its Collector where that is in another process.

    Args:
        of: the digest of the engine's artifact.
    """

    def __init__(self, worker_end: WorkerEnd, of: str) -> None:
        self.worker_end, self.of = worker_end, of
        self.workers = worker_end.workers

    def start(self) -> None:
        """The collector's own process keeps the statistics."""

    def close(self) -> None:
        """Nothing waits here: every observation was handed over at once."""

    def observe(self, batch: EncodedBatch, seconds: float) -> None:
        """Hands in a batch that took `seconds` to run, without its answers, of which no statistics are kept.

        Raises:
            Unavailable: the collector is gone; an answer that cannot be counted is not given.
        """
        self._hand_in(
            "observe", replace(batch, logits=batch.logits[:0], embedding=batch.embedding[:0], outputs=None), seconds
        )

    def observe_deep(self, state: DeepState, seconds: float) -> None:
        """Hands in a deep look that took `seconds`."""
        self._hand_in("observe_deep", state, seconds)

    def report(self, query: Query) -> bytes:
        return self._ask("report", query)  # type: ignore[no-any-return]

    def snapshot(self) -> Snapshot:
        return self._ask("snapshot")  # type: ignore[no-any-return]

    def status(self) -> Status:
        return self._ask("status")  # type: ignore[no-any-return]

    def _hand_in(self, method: str, *arguments: object) -> None:
        self.worker_end.hand_in(method, self.of, *arguments)

    def _ask(self, method: str, *arguments: object) -> Any:
        return self.worker_end.ask(method, self.of, *arguments)


class RemoteCountSink:
    """The counts of this process in its parent's aggregator (a service.telemetry.aggregator.CountSink)."""

    def __init__(self, worker_end: WorkerEnd) -> None:
        self.worker_end = worker_end

    def count(self, tally: Tally, gauges: Gauges, inferences: Inferences) -> None:
        """Hands in all that this process answered by now."""
        self.worker_end.hand_in("count", PARENT, tally, gauges, inferences)

    def traffic(self) -> Report:
        return self.worker_end.ask("traffic", PARENT)  # type: ignore[no-any-return]

    def inferences(self) -> Inferences:
        return self.worker_end.ask("inferences", PARENT)  # type: ignore[no-any-return]

    def check_ready(self) -> None:
        self.worker_end.ask("check_ready", PARENT)
