"""The collector of another process: workers hand in what their norms saw, and ask it what all workers saw.

A worker writes an observation to its pipe before it answers its client, and the collector's process empties every pipe
before it answers a question. So whatever any client has had an answer for is in the statistics that a client asks for
afterwards, whichever worker either of them meets; and a worker that is killed loses nothing that it handed over.
"""

import logging
import pickle
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

from runtime.batch import EncodedBatch
from runtime.deep import DeepState
from runtime.errors import AddNormError, Unavailable
from runtime.state_store import Storage
from service.collector import Asked, Collector
from service.glance import Glance
from service.ledger import Ledger, Report
from service.pipes import Outbox, open_pipe
from service.statistics_schemas import Overhead
from service.traffic import Gauges, Tally

logger = logging.getLogger("addnorm.service")

HAND_IN = ("observe", "observe_deep")
ASK = (
    "storage",
    "all_layers",
    "one_layer",
    "state",
    "history",
    "compare",
    "take_baseline",
    "drop_baseline",
    "overhead",
    "glance",
)
COUNT, ASK_LEDGER = ("count",), ("traffic", "check_ready")  # the same, of the ledger
PATIENCE = 5  # seconds that a worker has to read an answer; a stopped one must not stop the others


class RemoteCollector:
    """What an engine takes for its Collector where that is in another process.

    Args:
        outbox: where observations go.
        asks: where questions go and answers come from.
        workers: processes that hand in to the same collector.
    """

    def __init__(self, outbox: Outbox, asks: Connection, workers: int) -> None:
        self.outbox, self.asks, self.workers = outbox, asks, workers
        self._lock = threading.Lock()  # the endpoints run in threads

    def start(self) -> None:
        """The collector's own process keeps the statistics."""

    def close(self) -> None:
        """Nothing waits here: every observation was handed over at once."""

    def observe(self, batch: EncodedBatch, seconds: float) -> None:
        """Hands in a batch that took `seconds` to run, without logits and embeddings, of which no statistics are kept.

        Raises:
            Unavailable: the collector is gone; an answer that cannot be counted is not given.
        """
        self._hand_in("observe", replace(batch, logits=batch.logits[:0], embedding=batch.embedding[:0]), seconds)

    def observe_deep(self, state: DeepState, seconds: float) -> None:
        """Hands in a deep look that took `seconds`."""
        self._hand_in("observe_deep", state, seconds)

    def storage(self) -> Storage:
        return self._ask("storage")  # type: ignore[no-any-return]

    def all_layers(self, asked: Asked) -> bytes:
        return self._ask("all_layers", asked)  # type: ignore[no-any-return]

    def one_layer(self, asked: Asked, name: str) -> bytes:
        return self._ask("one_layer", asked, name)  # type: ignore[no-any-return]

    def state(self, asked: Asked) -> bytes:
        return self._ask("state", asked)  # type: ignore[no-any-return]

    def history(self, asked: Asked) -> bytes:
        return self._ask("history", asked)  # type: ignore[no-any-return]

    def compare(self, asked: Asked, against: str) -> bytes:
        return self._ask("compare", asked, against)  # type: ignore[no-any-return]

    def take_baseline(self, asked: Asked) -> bytes:
        return self._ask("take_baseline", asked)  # type: ignore[no-any-return]

    def drop_baseline(self) -> bytes:
        return self._ask("drop_baseline")  # type: ignore[no-any-return]

    def overhead(self) -> Overhead:
        return self._ask("overhead")  # type: ignore[no-any-return]

    def glance(self) -> Glance:
        return self._ask("glance")  # type: ignore[no-any-return]

    def count(self, tally: Tally, gauges: Gauges) -> None:
        """Hands in all that this process answered by now."""
        self._hand_in("count", tally, gauges)

    def traffic(self) -> Report:
        return self._ask("traffic")  # type: ignore[no-any-return]

    def check_ready(self) -> None:
        self._ask("check_ready")

    def _hand_in(self, method: str, *arguments: object) -> None:
        try:
            self.outbox.send((method, arguments))
        except OSError as error:
            raise gone() from error

    def _ask(self, method: str, *arguments: object) -> Any:
        try:
            with self._lock:
                self.asks.send((method, arguments))
                answer = self.asks.recv()
        except (OSError, EOFError) as error:
            raise gone() from error
        if isinstance(answer, Exception):
            raise answer
        return answer


class Link:
    """The collector's ends of the two pipes to one worker, and the worker's ends of them, as a RemoteCollector.

    Args:
        ledger: where the worker's traffic is counted.
    """

    def __init__(self, workers: int, ledger: Ledger | None = None) -> None:
        self.account = (ledger or Ledger()).open()
        self.inbox, outbox = open_pipe()
        ours, theirs = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", PATIENCE, 0))
        self.asks = Connection(ours.detach())
        self.remote = RemoteCollector(outbox, Connection(theirs.detach()), workers)

    def hand_in(self, collector: Collector) -> None:
        """Counts what the worker handed over by now."""
        for method, arguments in self.inbox.receive():
            assert method in HAND_IN + COUNT
            try:
                getattr(self.account if method in COUNT else collector, method)(*arguments)
            except Exception:  # the collector serves the other workers too
                logger.exception("defect while counting what a worker saw")

    def question(self) -> tuple[str, tuple[Any, ...]] | None:
        """What the worker says; None where it is gone."""
        try:
            return self.asks.recv()  # type: ignore[no-any-return]
        except (OSError, EOFError, pickle.UnpicklingError):
            return None

    def answer(self, collector: Collector, method: str, arguments: tuple[Any, ...]) -> None:
        """Answers a question, once all that was handed in is counted.

        Raises:
            OSError: the worker is gone, or does not read.
        """
        assert method in ASK + ASK_LEDGER
        asked = self.account if method in ASK_LEDGER else collector
        self.asks.send(attempt(getattr(asked, method), *arguments))

    def close_ours(self) -> None:
        self.account.close()
        self.inbox.close()
        self.asks.close()

    def close_theirs(self) -> None:
        self.remote.outbox.close()
        self.remote.asks.close()


def attempt(method: Callable[..., Any], *arguments: object) -> Any:
    """What the method gives, or the error that it ends in."""
    try:
        return method(*arguments)
    except AddNormError as error:
        return error
    except Exception:
        logger.exception("defect while answering a worker")
        return RuntimeError("the collector has a defect; its log has the details")


def gone() -> Unavailable:
    return Unavailable("The process that keeps the statistics is gone, the service is stopping: try again later.")
