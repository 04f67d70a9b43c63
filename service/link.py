"""The parent's ends of the pipes to its workers: counts what they hand in, and answers what they ask."""

import logging
import pickle
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from runtime.errors import AddNormError, UnknownModel
from service.collector import Collector
from service.collectors import Collectors
from service.ledger import Ledger
from service.line import Line
from service.pipes import open_pipe

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
COUNT, ASK_LEDGER = ("count",), ("traffic", "inferences", "check_ready")  # the same, of the ledger
PATIENCE = 5  # seconds that a worker has to read an answer; a stopped one must not stop the others


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
