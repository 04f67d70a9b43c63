"""Both ends of the pipes between the supervisor and a worker: observations, questions with answers, and orders."""

import logging
import pickle
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from multiprocessing.connection import Connection
from typing import Any

from runtime.artifact import Artifact
from runtime.errors import AddNormError, Unavailable, UnknownModel
from runtime.manifest import Manifest
from service.norm_stats.collector import Collector
from service.norm_stats.pool import CollectorPool
from service.repository.change import PREPARE
from service.telemetry.aggregator import Aggregator
from service.workers.pipe import Inbox, Outbox, open_backlog, open_pipe

logger = logging.getLogger("addnorm.service")

HAND_IN = ("observe", "observe_deep")
ASK = ("report", "snapshot", "status")
ASK_PARENT = ("index",)
COUNT, ASK_AGGREGATOR = ("count",), ("traffic", "inferences", "check_ready")  # the same, of the aggregator
PATIENCE = 5  # seconds that a worker has to read an answer; a stopped one must not stop the others

PARENT = ""  # whom a worker asks that asks no collector


class SupervisorEnd:
    """The parent's ends of the pipes to one worker, and the worker's ends of them.

    Args:
        aggregator: where the worker's traffic is counted.

    Raises:
        OSError: too many files are open; none of these stays open.
    """

    def __init__(self, workers: int, aggregator: Aggregator | None = None) -> None:
        with ExitStack() as undo:
            self.inbox, outbox = open_pipe()
            undo.callback(self.inbox.close)
            undo.callback(outbox.close)
            orders, self.orders = open_backlog()
            undo.callback(orders.close)
            undo.callback(self.orders.close)
            ours, theirs = socket.socketpair()
            undo.pop_all()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", PATIENCE, 0))
        self.asks = Connection(ours.detach())
        self.worker_end = WorkerEnd(outbox, Connection(theirs.detach()), orders, workers)
        self.process_counts = (aggregator or Aggregator()).open()

    def hand_in(self, collectors: CollectorPool) -> None:
        """Counts what the worker handed over by now."""
        for method, of, arguments in self.inbox.receive():
            assert method in HAND_IN + COUNT
            taker = self.process_counts if method in COUNT else collectors.get(of)
            if taker is None:
                logger.warning("what a worker saw of an artifact that is not served any more is not counted")
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

    def last_words(self) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """What the worker, which has ended, said and nobody heard by now: a method or a word, arguments."""
        while self.asks.poll() and (said := self.question()) is not None:
            yield said[0], said[2]

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
        if method in ASK_AGGREGATOR:
            asked = self.process_counts
        else:
            assert method in (ASK if isinstance(asked, Collector) else ASK_PARENT)
        self.asks.send(attempt(getattr(asked, method), *arguments))

    def order(self, what: str, *arguments: Any) -> None:
        """Tells the worker what is to be served, or how a change ended that it asked for. Never waits for it."""
        if what == PREPARE:  # it reads all else itself
            number, artifacts = arguments
            arguments = number, [Artifact(each.path, stub(each.manifest), {}) for each in artifacts]
        self.orders.send((what, arguments))

    def close(self) -> None:
        self.process_counts.close()
        self.inbox.close()
        self.asks.close()
        self.orders.close()

    def close_worker_end(self) -> None:
        self.worker_end.close()


def stub(manifest: Manifest) -> Manifest:
    """As little of it as tells it from others."""
    fields: dict[str, Any] = {"digest": manifest.digest}
    return Manifest.model_construct(**fields)


def attempt(method: Callable[..., Any], *arguments: object) -> Any:
    """What the method gives, or the error that it ends in."""
    try:
        return method(*arguments)
    except AddNormError as error:
        return error
    except Exception:
        logger.exception("defect while answering a worker")
        return RuntimeError("the collector has a defect; its log has the details")


class WorkerEnd:
    """A worker's ends of the pipes between it and its parent.

    Args:
        outbox: where observations go.
        asks: where questions go and answers come from.
        orders: where the parent says what is to be served, and how changes ended.
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


def gone() -> Unavailable:
    return Unavailable("The process that keeps the statistics is gone, the service is stopping: try again later.")
