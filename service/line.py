"""A worker's ends of the pipes between it and its parent."""

import threading
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from runtime.errors import Unavailable
from service.orders import PARENT
from service.pipes import Inbox, Outbox


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


def gone() -> Unavailable:
    return Unavailable("The process that keeps the statistics is gone, the service is stopping: try again later.")
