"""The courier of a service of several processes: a process of its own beside the workers, which asks their parent."""

import logging
import pickle
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from runtime.errors import SettingError
from runtime.manifest import Manifest
from runtime.store.shares import Published
from service.fleet.courier import Courier
from service.fleet.host import LAST_TURN, make_exchange
from service.norm_stats.interface import Delivery
from service.norm_stats.pool import CollectorPool
from service.settings import Settings
from service.workers.channel import attempt
from service.workers.fork import Selector, describe_exit, fork
from service.workers.worker import take_over_signals

logger = logging.getLogger("addnorm.fleet")

PATIENCE = 5  # seconds that either side has to read what the other writes
ASK, TELL = ("digests", "manifest", "publish"), ("deliver",)


class FleetProcess:
    """Starts the courier's process where the settings name other replicas, and answers it.

    Args:
        inherited: closes what a forked process does not need.
    """

    def __init__(
        self,
        settings: Settings,
        collectors: CollectorPool,
        selector: Selector,
        inherited: Callable[[], list[Callable[[], None]]],
    ) -> None:
        self.settings, self.collectors, self.selector, self.inherited = settings, collectors, selector, inherited
        self.wanted = bool(settings.peers or settings.store)
        self.process: BaseProcess | None = None
        self.asks: Connection | None = None
        self.refused = False  # whether the last attempt to start it failed

    @property
    def closing(self) -> list[Callable[[], None]]:
        """What closes in a forked process what is this one's."""
        return [self.asks.close] if self.asks is not None else []

    def keep_running(self) -> None:
        """Starts the process where there is none; to be called every second."""
        if not self.wanted or self.process is not None:
            return
        try:
            self._start()
            self.refused = False
        except OSError as error:
            if not self.refused:
                logger.error("the process that exchanges statistics cannot be started (%s): tried on", error.strerror)
            self.refused = True

    def finish(self) -> None:
        """Lets it tell a last time what was counted, and ends it."""
        self.wanted = False
        deadline = time.monotonic() + LAST_TURN
        if self.process is not None:
            self.process.terminate()
        while self.process is not None and time.monotonic() < deadline:
            self.selector.turn(0.1)
        if self.process is not None:
            self.process.kill()

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):  # a process that was stopped must not stop this one
            ours.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", PATIENCE, 0))
        closing = self.inherited()
        self.asks, other = Connection(ours.detach()), Connection(theirs.detach())
        try:
            self.process = fork(partial(carry, self.settings, other), [*closing, self.asks.close])
        except OSError:
            self.asks.close()
            self.asks = None
            raise
        finally:
            other.close()
        self.selector.add(self.asks.fileno(), self._on_question)
        self.selector.add(self.process.sentinel, self._on_end)

    def _on_question(self) -> None:
        if self.asks is None or self.process is None:  # its end was noticed before what it ended of
            return
        try:
            method, arguments = self.asks.recv()
            assert method in ASK + TELL
            answer = attempt(getattr(self.collectors, method), *arguments)
            if method in ASK:
                self.asks.send(answer)
        except (OSError, EOFError, pickle.UnpicklingError):
            self.selector.remove(self.asks.fileno())
            self.process.kill()  # its end is noticed, and another starts

    def _on_end(self) -> None:
        assert self.asks is not None and self.process is not None
        self.selector.remove(self.process.sentinel)
        self.selector.remove(self.asks.fileno())
        self.process.join()
        if self.wanted:
            how = describe_exit(self.process.exitcode)
            logger.error("the process that exchanges statistics ended (%s): another starts within a second", how)
        self.asks.close()
        self.process = self.asks = None


class Parent:
    """The parent's collectors, as the courier sees them (a service.fleet.courier.Local)."""

    def __init__(self, asks: Connection) -> None:
        self.asks = asks

    def digests(self) -> list[str]:
        return self._ask("digests")  # type: ignore[no-any-return]

    def manifest(self, digest: str) -> Manifest | None:
        return self._ask("manifest", digest)  # type: ignore[no-any-return]

    def publish(self, digest: str, sequence: int, last: bool = False) -> Published | None:
        return self._ask("publish", digest, sequence, last)  # type: ignore[no-any-return]

    def deliver(self, digest: str, delivery: Delivery) -> None:
        self.asks.send(("deliver", (digest, delivery)))

    def _ask(self, method: str, *arguments: object) -> Any:
        self.asks.send((method, arguments))
        answer = self.asks.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer


def carry(settings: Settings, asks: Connection) -> None:
    """Exchanges until SIGTERM, or until the parent is gone; the body of the forked process."""
    take_over_signals()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    exchange = make_exchange(settings)
    if exchange is None:
        raise SettingError("no other replica is named")
    try:
        Courier(exchange, Parent(asks)).run(stop)
    except (EOFError, OSError):
        return  # the parent is gone
