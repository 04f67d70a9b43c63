"""A worker's part in loading and unloading: it prepares what its parent orders, and serves it once that is decided."""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from runtime.artifact import Artifact, read_artifact
from runtime.errors import ArtifactError
from service.inference.engine import Engine
from service.inference.registry import ModelRegistry
from service.repository.change import DROP, PREPARE, PREPARED, SERVE, SERVED
from service.repository.loader import Engines, build, by_digest, one_thread
from service.settings import Settings
from service.workers.channel import PARENT, WorkerEnd
from service.workers.proxies import RemoteCollector

logger = logging.getLogger("addnorm.service")

Order = Callable[..., Awaitable[None]]
POLL = 0.02  # seconds between two questions whether what was asked for is done


class WorkerParticipant:
    """The model repository of a service of several processes, as a worker sees it (a service.control.Control)."""

    def __init__(self, settings: Settings, worker_end: WorkerEnd, models: ModelRegistry) -> None:
        self.settings, self.worker_end, self.models = settings, worker_end, models
        self._prepared: Engines = {}
        self._builder = one_thread()
        self._orders: asyncio.Queue[tuple[str, tuple[Any, ...]]]
        self._working: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._orders = asyncio.Queue()
        asyncio.get_running_loop().add_reader(self.worker_end.orders.fd, self._read)
        self._working = asyncio.create_task(self._work())

    async def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self.worker_end.orders.fd)
        assert self._working is not None
        self._working.cancel()
        with suppress(asyncio.CancelledError):
            await self._working

    async def index(self, ready: bool) -> list[dict[str, str]]:
        return await asyncio.to_thread(self.worker_end.ask, "index", PARENT, ready)

    async def load(self, name: str, version: str | None = None) -> None:
        await self._carry_out("begin_load", name, version)

    async def unload(self, name: str) -> None:
        await self._carry_out("begin_unload", name)

    async def _carry_out(self, method: str, *arguments: str | None) -> None:
        """Asks again and again, so that the line stays free for other questions."""
        number = await asyncio.to_thread(self.worker_end.ask, method, PARENT, *arguments)
        while not await asyncio.to_thread(self.worker_end.ask, "outcome", PARENT, number):
            await asyncio.sleep(POLL)

    def _read(self) -> None:
        for order in self.worker_end.orders.receive():
            self._orders.put_nowait(order)
        if self.worker_end.orders.ended:
            asyncio.get_running_loop().remove_reader(self.worker_end.orders.fd)

    async def _work(self) -> None:
        """Does what is ordered, one after the other; a worker that cannot ends, for one that starts with all of it."""
        orders: dict[str, Order] = {PREPARE: self._prepare, SERVE: self._serve, DROP: self._drop}
        while True:
            what, arguments = await self._orders.get()
            try:
                await orders[what](*arguments)
            except Exception:
                logger.exception("defect while following the order to %s", what)
                signal.raise_signal(signal.SIGTERM)

    async def _prepare(self, number: int, wanted: list[tuple[Path, str]]) -> None:
        known = by_digest(self.models) | self._prepared
        makers = {digest: partial(self._make, path, digest) for path, digest in wanted if digest not in known}
        loop = asyncio.get_running_loop()
        engines, failures = await loop.run_in_executor(self._builder, build, makers)
        self._prepared |= engines
        await asyncio.to_thread(self.worker_end.say, PREPARED, number, failures)

    async def _serve(self, number: int, name: str, digests: list[str], default_name: str) -> None:
        engines = by_digest(self.models) | self._prepared
        self.models.default_name = default_name
        self.models.replace(name, [engines[digest] for digest in digests])
        self._prepared.clear()
        await asyncio.to_thread(self.worker_end.say, SERVED, number)

    async def _drop(self) -> None:
        self._prepared.clear()

    def _make(self, path: Path, digest: str) -> Engine:
        artifact = read_artifact(path)
        if artifact.manifest.digest != digest:
            raise ArtifactError(f"{path} changed while it was loaded: load it again.")
        return make_engine(self.settings, self.worker_end, artifact)


def make_engine(settings: Settings, worker_end: WorkerEnd, artifact: Artifact) -> Engine:
    """An engine whose collector is the parent's."""
    return Engine(settings, RemoteCollector(worker_end, artifact.manifest.digest), artifact)
