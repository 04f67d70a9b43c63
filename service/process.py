"""One process that answers HTTP: uvicorn over the application."""

import signal
import socket
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
        owner = owner or Ledger().open()
        feed = make_feed(models, owner)
        config = uvicorn.Config(
            create_front(settings, models, owner, feed),
            log_level=settings.log_level,
            log_config=None,
            access_log=False,
            proxy_headers=False,  # nobody asks who the client is
            timeout_graceful_shutdown=GRACE,
        )
        self.listener = listener
        self.server = _Server(config)
        self.server.on_started, self.server.on_stopping = started, feed.close

    def run(self, signals: tuple[signal.Signals, ...] = STOPS) -> None:
        """Answers until one of `signals` ends it; requests that were accepted are answered first."""
        for stop in signals:
            signal.signal(stop, self._stop)
        self.server.run(sockets=[self.listener])

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        """Before uvicorn handles signals itself, and when it raises them again at its end: that is no failure."""
        self.server.should_exit = True


class _Server(uvicorn.Server):
    on_started: Callable[[], None]
    on_stopping: Callable[[], None]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self.on_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.on_stopping()  # streams that never end by themselves would be waited for
        await super().shutdown(sockets)
