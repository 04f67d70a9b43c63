"""uvicorn's server, as this service needs it: it accepts in time, says when it listens, and drains before it stops."""

import asyncio
import socket
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn


class Acceptor(uvicorn.Server):
    """Accepts all connections that wait: uvloop takes one in a round of its loop, and batches come in between.

    What finds no place in the kernel's queue is tried again by its client, after a second and after three.
    """

    on_started: Callable[[], None]
    on_stop: Callable[[], None]
    on_shutdown: Callable[[], None]
    drain_delay = 0.0  # seconds between the first signal and the stop
    stop_at = float("inf")  # on the monotonic clock

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
        if self.accepting:
            await asyncio.wait(self.accepting)  # to be told, as others are
        self.on_shutdown()  # streams that never end by themselves would be waited for
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
