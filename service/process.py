"""One process that answers HTTP: uvicorn over the application."""

import ctypes
import gc
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from types import FrameType

import uvicorn

from service.acceptor import Acceptor
from service.app import create_app, create_reporter
from service.control import Control
from service.feed import Feed
from service.heads import Heads
from service.ledger import Ledger, Owner
from service.listeners import BACKLOG
from service.models import Models
from service.predict import Desk
from service.protocol import Protocol
from service.refusal import Refusal
from service.settings import Settings
from service.signals import STOPS
from service.summary import Followed, make_feed
from service.turns import Turns

YOUNG_OBJECTS = 20_000  # that start a garbage collection: one looks through all connections
GRACE = 30  # seconds that accepted requests have to end in, once a signal stops the process


def server_config(
    settings: Settings,
    models: Models,
    control: Control | None = None,
    owner: Owner | None = None,
    feed: Feed[Followed] | None = None,
) -> uvicorn.Config:
    """What uvicorn runs: the application, and the short way to predictions.

    Args:
        owner: where this process hands in what it answers; a ledger of its own where it is not given.
        feed: what the page follows.

    Raises:
        SettingError: a setting names what cannot be used.
    """
    reporter = create_reporter(settings, models, owner)
    desk = Desk.of(settings, models, reporter.journal)
    return uvicorn.Config(
        create_app(settings, models, control, reporter, feed),
        http=partial(Protocol, desk, Heads(), Refusal(), Turns()),  # type: ignore[arg-type]
        log_level=settings.log_level,
        log_config=None,
        access_log=False,
        backlog=BACKLOG,
        proxy_headers=False,  # nobody asks who the client is
        timeout_graceful_shutdown=GRACE,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
    )


class Process:
    """A uvicorn server that says when it listens.

    Args:
        started: called once connections are accepted.
        owner: where it hands in what it answers; a ledger of its own where it is not given.

    Raises:
        SettingError: a setting names what cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        models: Models,
        control: Control | None,
        listener: socket.socket,
        started: Callable[[], None],
        owner: Owner | None = None,
    ) -> None:
        self.ledger = Ledger() if owner is None else None
        owner = self.ledger.open() if self.ledger else owner
        assert owner is not None
        feed = make_feed(models, owner)
        self.listener = listener
        self.server = Acceptor(server_config(settings, models, control, owner, feed))
        self.server.on_started, self.server.on_stop = started, self._begin_to_stop
        self.server.on_shutdown = feed.close
        # of several processes, the parent waits before it stops them
        self.server.drain_delay = settings.drain_delay if self.ledger is not None else 0.0

    def run(self, signals: tuple[signal.Signals, ...] = STOPS) -> None:
        """Answers until one of `signals` ends it; requests that were accepted are answered first."""
        gc.freeze()  # what was loaded by now stays: collections that look through it would hold up answers for 20 ms
        gc.enable()
        gc.set_threshold(YOUNG_OBJECTS)
        trim_heap()
        for stop in signals:
            signal.signal(stop, self._stop)
        self.server.run(sockets=[self.listener])

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        """Before uvicorn handles signals itself, and when it raises them again at its end: that is no failure."""
        self.server.should_exit = True

    def _begin_to_stop(self) -> None:
        if self.ledger is not None:
            self.ledger.stopping = True


def trim_heap() -> None:
    """Gives back what loading took and freed again, where the C library can: it lies below what is still in use."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)
