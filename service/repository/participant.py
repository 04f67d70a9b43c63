"""A process's part in a rollout: it prepares what is ordered while it answers, and serves it once that is decided."""

import asyncio
import itertools
import logging
import os
import signal
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from contextlib import suppress
from typing import Any

from runtime.artifact import Artifact
from runtime.errors import AddNormError, Unavailable
from service.inference.engine import Engine
from service.inference.registry import ModelRegistry
from service.repository.change import DONE, DROP, PREPARE, PREPARED, SERVE, SERVED
from service.repository.loader import Engines, build, by_digest, makers

logger = logging.getLogger("addnorm.service")


class LocalParticipant:
    """What follows a rollout's orders in the event loop, wherever the rollout is.

    Args:
        models: what answers.
        make: an engine over an artifact; called by `builder`, while the event loop goes on.
        tell: says something to the rollout.
    """

    def __init__(
        self,
        models: ModelRegistry,
        make: Callable[[Artifact], Engine],
        tell: Callable[..., Awaitable[None]],
        builder: Executor,
    ) -> None:
        self.models, self.make, self.tell, self.builder, self.pid = models, make, tell, builder, os.getpid()
        self._prepared: Engines = {}
        self._orders: asyncio.Queue[tuple[str, tuple[Any, ...]]]
        self._working: asyncio.Task[None]
        self._requests: dict[int, asyncio.Future[None]] = {}  # of clients that wait, by number
        self._numbers = itertools.count(1)
        self._closed: AddNormError | None = None

    def start(self) -> None:
        self._orders, self._closed = asyncio.Queue(), None
        self._working = asyncio.create_task(self._work())

    async def close(self, reason: AddNormError) -> None:
        """Follows no more orders."""
        self.abandon(reason)
        self._working.cancel()
        with suppress(asyncio.CancelledError):
            await self._working

    def order(self, what: str, *arguments: Any) -> None:
        """Does what the rollout decided, one after the other. That a change is over is heard at once."""
        if what == DONE:
            self._done(*arguments)
        else:
            self._orders.put_nowait((what, arguments))

    async def request(self, what: str, *arguments: str | None) -> None:
        """Asks for a change; returns when it is made.

        Raises:
            AddNormError: nothing changed; says why.
        """
        if self._closed is not None:
            raise self._closed
        number, done = next(self._numbers), asyncio.get_running_loop().create_future()
        self._requests[number] = done
        try:
            await self.tell(what, number, *arguments)
            await done
        finally:
            self._requests.pop(number, None)

    def abandon(self, reason: AddNormError) -> None:
        """Nobody says how changes end any more, to those who wait nor to those who ask from now on."""
        self._closed = reason
        for number in list(self._requests):
            self._done(number, reason)

    def _done(self, number: int, error: AddNormError | None) -> None:
        done = self._requests.pop(number, None)
        if done is None or done.done():  # who asked has gone
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    async def _work(self) -> None:
        """A process that cannot do what is ordered ends, for one that starts with all of it."""
        orders: dict[str, Callable[..., Awaitable[None]]]
        orders = {PREPARE: self._prepare, SERVE: self._serve, DROP: self._drop}
        while True:
            what, arguments = await self._orders.get()
            try:
                await orders[what](*arguments)
            except Exception:
                logger.exception("defect while following the order to %s", what)
                self.abandon(Unavailable("The service has a defect, and ends: its log has the details."))
                signal.raise_signal(signal.SIGTERM)

    async def _prepare(self, number: int, artifacts: list[Artifact]) -> None:
        known = by_digest(self.models) | self._prepared
        missing = [artifact for artifact in artifacts if artifact.manifest.digest not in known]
        loop = asyncio.get_running_loop()
        engines, failures = await loop.run_in_executor(self.builder, build, makers(missing, self.make))
        self._prepared |= engines
        await self.tell(PREPARED, number, failures)

    async def _serve(self, number: int, name: str, digests: list[str], default_name: str) -> None:
        engines = by_digest(self.models) | self._prepared
        self.models.default_name = default_name
        self.models.replace(name, [engines[digest] for digest in digests])
        self._prepared.clear()
        await self.tell(SERVED, number)

    async def _drop(self) -> None:
        self._prepared.clear()
