"""The collectors of another process: workers hand in what their norms saw, and ask them what all workers saw.

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
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

from runtime.batch import EncodedBatch
from runtime.deep import DeepState
from runtime.errors import AddNormError, Unavailable, UnknownModel
from runtime.state_store import Storage
from service.collector import Asked, Collector
from service.collectors import Collectors
from service.glance import Glance
from service.ledger import Ledger, Report
from service.pipes import Inbox, Outbox, open_pipe
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
ASK_PARENT = ("begin_load", "begin_unload", "outcome", "index")
COUNT, ASK_LEDGER = ("count",), ("traffic", "check_ready")  # the same, of the ledger
PARENT = ""  # whom a worker asks that asks no collector
PATIENCE = 5  # seconds that a worker has to read an answer; a stopped one must not stop the others


class Line:
    """A worker's ends of the pipes between it and its parent.

    Args:
        outbox: where observations go.
        asks: where questions go and answers come from.
        orders: where the parent says what is to be served.
        workers: how many of them there are.
    """

    def __init__(self, outbox: Outbox, asks: Connection, orders: Inbox, workers: int) -> None:
        self.outbox, self.asks, self.orders, self.workers = outbox, asks, orders, workers
        self._lock = threading.Lock()  # the endpoints run in threads

    def say(self, what: str, *arguments: object) -> None:
        """Tells the parent something that has no answer."""
        with self._lock, suppress(OSError):  # without a parent, this process ends
            self.asks.send((what, PARENT, arguments))

    def hand_in(self, method: str, of: str, *arguments: object) -> None:
        try:
            self.outbox.send((method, of, arguments))
        except OSError as error:
            raise gone() from error

    def ask(self, method: str, of: str, *arguments: object) -> Any:
        """What the parent answers; raises the error that it answers with.

        Args:
            of: the digest of the artifact whose collector is asked, or PARENT.
        """
        try:
            with self._lock:
                self.asks.send((method, of, arguments))
                answer = self.asks.recv()
        except (OSError, EOFError) as error:
            raise gone() from error
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        self.outbox.close()
        self.asks.close()
        self.orders.close()


class RemoteCollector:
    """What an engine takes for its Collector where that is in another process.

    Args:
        of: the digest of the engine's artifact.
    """

    def __init__(self, line: Line, of: str) -> None:
        self.line, self.of = line, of
        self.workers = line.workers

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

    def _hand_in(self, method: str, *arguments: object) -> None:
        self.line.hand_in(method, self.of, *arguments)

    def _ask(self, method: str, *arguments: object) -> Any:
        return self.line.ask(method, self.of, *arguments)


class RemoteAccount:
    """The ledger's account of this process (a service.ledger.Owner), in its parent."""

    def __init__(self, line: Line) -> None:
        self.line = line

    def count(self, tally: Tally, gauges: Gauges) -> None:
        """Hands in all that this process answered by now."""
        self.line.hand_in("count", PARENT, tally, gauges)

    def traffic(self) -> Report:
        return self.line.ask("traffic", PARENT)  # type: ignore[no-any-return]

    def check_ready(self) -> None:
        self.line.ask("check_ready", PARENT)


class Link:
    """The parent's ends of the pipes to one worker, and the worker's ends of them, as a Line.


    Args:
        ledger: where the worker's traffic is counted.
    """

    def __init__(self, workers: int, ledger: Ledger | None = None) -> None:
        self.account = (ledger or Ledger()).open()
        self.inbox, outbox = open_pipe()
        orders, self.orders = open_pipe()
        ours, theirs = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", PATIENCE, 0))
        self.asks = Connection(ours.detach())
        self.line = Line(outbox, Connection(theirs.detach()), orders, workers)

    def hand_in(self, collectors: Collectors) -> None:
        """Counts what the worker handed over by now."""
        for method, of, arguments in self.inbox.receive():
            assert method in HAND_IN + COUNT
            taker = self.account if method in COUNT else collectors.get(of)
            if taker is None:
                logger.warning("what a worker saw of an artifact that was let go is not counted")
                continue
            try:
                getattr(taker, method)(*arguments)
            except Exception:  # the collector serves the other workers too
                logger.exception("defect while counting what a worker saw")

    def question(self) -> tuple[str, str, tuple[Any, ...]] | None:
        """What the worker says: a method or a word, whom it asks, arguments. None where it is gone."""
        try:
            return self.asks.recv()  # type: ignore[no-any-return]
        except (OSError, EOFError, pickle.UnpicklingError):
            return None

    def answer(self, asked: object, method: str, arguments: tuple[Any, ...]) -> None:
        """Answers a question, once all that was handed in is counted.

        Args:
            asked: the collector, or what answers for the parent; None where there is none any more.

        Raises:
            OSError: the worker is gone, or does not read.
        """
        if asked is None:
            self.asks.send(UnknownModel("The model was unloaded, and its statistics with it: ask for another version."))
            return
        if method in ASK_LEDGER:
            asked = self.account
        else:
            assert method in (ASK if isinstance(asked, Collector) else ASK_PARENT)
        self.asks.send(attempt(getattr(asked, method), *arguments))

    def order(self, what: str, *arguments: object) -> None:
        """Tells the worker what is to be served."""
        with suppress(OSError):  # it is gone, which its end tells
            self.orders.send((what, arguments))

    def close_ours(self) -> None:
        self.account.close()
        self.inbox.close()
        self.asks.close()
        self.orders.close()

    def close_theirs(self) -> None:
        self.line.close()


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
