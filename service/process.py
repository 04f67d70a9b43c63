"""One process that answers HTTP: uvicorn over the application."""

import asyncio
import gc
import signal
import socket
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

import uvicorn

from service.app import create_front
from service.control import Control
from service.models import Models
from service.protocol import Protocol
from service.settings import Settings
from service.signals import STOPS

YOUNG_OBJECTS = 20_000  # that start a garbage collection: one looks through all connections
GRACE = 30  # seconds that accepted requests have to end in, once a signal stops the process


def server_config(settings: Settings, models: Models, control: Control | None = None) -> uvicorn.Config:
    """What uvicorn runs: the application, and the short way to predictions.

    Raises:
        SettingError: a setting names what cannot be used.
    """
    return uvicorn.Config(
        create_front(settings, models, control),
        http=partial(Protocol, models, settings.max_body_bytes),  # type: ignore[arg-type]
        log_level=settings.log_level,
        log_config=None,
        access_log=False,
        proxy_headers=False,  # nobody asks who the client is
        timeout_graceful_shutdown=GRACE,
    )


class Process:
    """A uvicorn server that says when it listens.

    Args:
        started: called once connections are accepted.

    Raises:
        SettingError: a setting names what cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        models: Models,
        control: Control,
        listener: socket.socket,
        started: Callable[[], None],
    ) -> None:
        self.listener = listener
        self.server = _Server(server_config(settings, models, control))
        self.server.on_started = started

    def run(self, signals: tuple[signal.Signals, ...] = STOPS) -> None:
        """Answers until one of `signals` ends it; requests that were accepted are answered first."""
        gc.collect()
        gc.freeze()  # what was loaded by now stays: collections that look through it would hold up answers for 20 ms
        gc.set_threshold(YOUNG_OBJECTS)
        for stop in signals:
            signal.signal(stop, self._stop)
        self.server.run(sockets=[self.listener])

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        """Before uvicorn handles signals itself, and when it raises them again at its end: that is no failure."""
        self.server.should_exit = True


class _Server(uvicorn.Server):
    """Accepts as many connections as wait: uvloop takes one in a round of its loop, and batches come in between."""

    on_started: Callable[[], None]

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.twins: list[socket.socket] = []  # of the listening sockets
        self.accepting: set[asyncio.Task[Any]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            for listener in sockets or ():
                twin = listener.dup()
                self.twins.append(twin)
                asyncio.get_running_loop().add_reader(twin, self._accept, twin)
            self.on_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for twin in self.twins:
            asyncio.get_running_loop().remove_reader(twin)
            twin.close()
        await super().shutdown(sockets)

    def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(self.config.backlog):
            try:
                connection, _ = listener.accept()
            except OSError:  # none waits; or too many are open, of which uvloop tells
                return
            connection.setblocking(False)
            task = loop.create_task(loop.connect_accepted_socket(self._protocol, connection, ssl=self.config.ssl))
            self.accepting.add(task)
            task.add_done_callback(self.accepting.discard)

    def _protocol(self) -> asyncio.Protocol:
        return self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
