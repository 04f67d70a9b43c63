"""One process that answers HTTP: uvicorn over the application."""

import gc
import signal
import socket
import time
from collections.abc import Callable
from types import FrameType

import uvicorn

from service.app import create_front
from service.ledger import Ledger, Owner
from service.models import Models
from service.settings import Settings
from service.signals import STOPS
from service.summary import make_feed

GRACE = 30  # seconds that accepted requests have to end in, once a signal stops the process


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
        listener: socket.socket,
        started: Callable[[], None],
        owner: Owner | None = None,
    ) -> None:
        self.ledger = Ledger() if owner is None else None
        owner = self.ledger.open() if self.ledger else owner
        assert owner is not None
        feed = make_feed(models, owner)
        config = uvicorn.Config(
            create_front(settings, models, owner, feed),
            log_level=settings.log_level,
            log_config=None,
            access_log=False,
            proxy_headers=False,  # nobody asks who the client is
            timeout_graceful_shutdown=GRACE,
            ssl_certfile=settings.tls_cert,
            ssl_keyfile=settings.tls_key,
        )
        self.listener = listener
        self.server = _Server(config)
        self.server.on_started, self.server.on_stop = started, self._begin_to_stop
        self.server.on_shutdown = feed.close
        # of several processes, the parent waits before it stops them
        self.server.drain_delay = settings.drain_delay if self.ledger is not None else 0.0

    def run(self, signals: tuple[signal.Signals, ...] = STOPS) -> None:
        """Answers until one of `signals` ends it; requests that were accepted are answered first."""
        for stop in signals:
            signal.signal(stop, self._stop)
        gc.collect()
        gc.freeze()  # what was loaded by now stays: looking through it again and again would hold up answers
        self.server.run(sockets=[self.listener])

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        """Before uvicorn handles signals itself, and when it raises them again at its end: that is no failure."""
        self.server.should_exit = True

    def _begin_to_stop(self) -> None:
        if self.ledger is not None:
            self.ledger.stopping = True


class _Server(uvicorn.Server):
    on_started: Callable[[], None]
    on_stop: Callable[[], None]
    on_shutdown: Callable[[], None]
    drain_delay = 0.0  # seconds between the first signal and the stop
    stop_at = float("inf")  # on the monotonic clock

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self.on_started()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """On the first signal the service is no longer ready, and goes on for `drain_delay`; the next ends that."""
        self.on_stop()
        if self.drain_delay and self.stop_at == float("inf"):
            self.stop_at = time.monotonic() + self.drain_delay
        else:
            super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        self.should_exit = self.should_exit or time.monotonic() >= self.stop_at
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.on_shutdown()  # streams that never end by themselves would be waited for
        await super().shutdown(sockets)
