"""What can be asked of the model repository, and a process's part in it: the same for one process and for a worker."""

import asyncio
import itertools
import logging
import os
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import suppress
from math import inf
from typing import Any, TypeVar

from runtime.artifact import Artifact
from runtime.errors import AddNormError, Unavailable
from service.inference.engine import Engine
from service.inference.registry import ModelRegistry
from service.norm_stats.pool import CollectorPool
from service.repository.catalog import Catalog
from service.repository.change import DONE, DROP, LOAD, PREPARE, PREPARED, SERVE, SERVED, UNLOAD
from service.repository.loader import Engines, build, by_digest, makers, one_thread, open_all, replan
from service.repository.rollout import Rollout
from service.settings import Settings

logger = logging.getLogger("addnorm.service")

T = TypeVar("T")


class Control(ABC):
    """Asks the rollout, wherever it is, for what clients want; prepares what it orders, and serves what it decides.

    Everything but `_make` is called in the event loop.

    Args:
        models: what answers now.
    """

    def __init__(self, settings: Settings, models: ModelRegistry) -> None:
        self.settings, self.models, self.pid, self.builder = settings, models, os.getpid(), one_thread(settings)
        self._prepared: Engines = {}
        self._orders: asyncio.Queue[tuple[str, tuple[Any, ...]]]
        self._working: asyncio.Task[None]
        self._requests: dict[int, asyncio.Future[None]] = {}  # of clients that wait, by number
        self._numbers = itertools.count(1)
        self._closed: AddNormError | None = None

    def start(self) -> None:
        """Begins to follow orders."""
        self._orders, self._closed = asyncio.Queue(), None
        self._working = asyncio.create_task(self._work())

    async def close(self) -> None:
        """Follows no more orders."""
        self._abandon(Unavailable("The service is stopping: ask another one."))
        self._working.cancel()
        with suppress(asyncio.CancelledError):
            await self._working

    @abstractmethod
    async def index(self, ready: bool) -> list[dict[str, str]]:
        """Every model and version: name, version, state (READY or UNAVAILABLE), reason."""

    async def load(self, name: str, version: str | None = None) -> None:
        """Serves a model's highest versions, or one version more; returns when they answer.

        Raises:
            AddNormError: nothing changed; says why.
        """
        await self._request(LOAD, name, version)

    async def unload(self, name: str) -> None:
        """Serves a model no more; what was accepted is answered.

        Raises:
            AddNormError: nothing changed; says why.
        """
        await self._request(UNLOAD, name)

    def order(self, what: str, *arguments: Any) -> None:
        """Queues an order of the rollout. DONE is not queued: it resolves its request at once."""
        if what == DONE:
            self._done(*arguments)
        else:
            self._orders.put_nowait((what, arguments))

    @abstractmethod
    def _make(self, artifact: Artifact) -> Engine:
        """An engine over the artifact; called in a thread."""

    @abstractmethod
    async def _tell(self, what: str, *arguments: object) -> None:
        """Sends a message to the rollout."""

    async def _request(self, what: str, *arguments: str | None) -> None:
        if self._closed is not None:
            raise self._closed
        number, done = next(self._numbers), asyncio.get_running_loop().create_future()
        self._requests[number] = done
        try:
            await self._tell(what, number, *arguments)
            await done
        finally:
            self._requests.pop(number, None)

    def _done(self, number: int, error: AddNormError | None) -> None:
        done = self._requests.pop(number, None)
        if done is None or done.done():  # who asked has left
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def _abandon(self, reason: AddNormError) -> None:
        """The rollout is gone: fails the pending requests and all later ones."""
        self._closed = reason
        for number in list(self._requests):
            self._done(number, reason)

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
                self._abandon(Unavailable("The service has a defect, and ends: its log has the details."))
                signal.raise_signal(signal.SIGTERM)

    async def _prepare(self, number: int, artifacts: list[Artifact]) -> None:
        known = by_digest(self.models) | self._prepared
        missing = makers((each for each in artifacts if each.manifest.digest not in known), self._make)
        engines, failures = await asyncio.get_running_loop().run_in_executor(self.builder, build, missing)
        self._prepared |= engines
        await self._tell(PREPARED, number, failures)

    async def _serve(self, number: int, name: str, digests: list[str], default_name: str) -> None:
        engines = by_digest(self.models) | self._prepared
        self.models.default_name = default_name
        self.models.replace(name, [engines[digest] for digest in digests])
        self._prepared.clear()
        await self._tell(SERVED, number)

    async def _drop(self) -> None:
        self._prepared.clear()


class LocalParticipant(Control):
    """The model repository of a service of one process: a rollout whose only participant this is.

    Args:
        models: what answers now: all that the catalog says is served.
        collectors: have a collector for each of them.
    """

    def __init__(self, settings: Settings, catalog: Catalog, models: ModelRegistry, collectors: CollectorPool) -> None:
        super().__init__(settings, models)
        self.catalog, self.collectors = catalog, collectors
        # what is built here cannot be lost as a worker can: it has the time that it needs
        watch = settings.watch if catalog.watch else None
        self._rollout = Rollout(catalog, collectors, watch, inf, self._run, self._run)
        self._rollout.joined(self)
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        super().start()
        self._turn()

    async def close(self) -> None:
        await super().close()
        if self._timer is not None:
            self._timer.cancel()
        await asyncio.get_running_loop().run_in_executor(self.builder, self.collectors.close)

    async def index(self, ready: bool) -> list[dict[str, str]]:
        return self.catalog.index({} if ready else await asyncio.to_thread(self.catalog.scan))

    def _make(self, artifact: Artifact) -> Engine:
        engine = Engine(self.settings, self.collectors.open(artifact), artifact)
        engine.start()
        return engine

    async def _tell(self, what: str, *arguments: object) -> None:
        self._rollout.heard[what](self, *arguments)
        if what == SERVED:
            self.catalog.release_contents()  # the sessions have what they need of them
        self._turn()

    def _run(self, job: Callable[[], T], then: Callable[[T], None]) -> None:
        """Does a job of the rollout where engines are built, beside the event loop."""

        def finish(future: asyncio.Future[T]) -> None:
            try:
                then(future.result())
            finally:
                self._turn()

        asyncio.get_running_loop().run_in_executor(self.builder, job).add_done_callback(finish)

    def _turn(self) -> None:
        """Lets the rollout do what is due: now, and when there is more."""
        if self._closed is not None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._rollout.turn(time.monotonic())
        if (due := self._rollout.due) < inf:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, due - time.monotonic()), self._turn)


def load_all(settings: Settings) -> LocalParticipant:
    """Everything that the settings name, ready to answer.

    Raises:
        ArtifactError, DeviceError: nothing can be served; says why.
        SettingError: a setting names what cannot be used.
    """
    (catalog, collectors), engines = open_all(settings), Engines()

    def make(artifact: Artifact) -> Engine:
        return Engine(settings, collectors.open(artifact), artifact)

    while missing := [each for each in catalog.artifacts() if each.manifest.digest not in engines]:
        built, failures = build(makers(missing, make))
        engines |= built
        replan(catalog, missing, failures)
    served = [engines[artifact.manifest.digest] for artifact in catalog.artifacts()]
    catalog.release_contents()
    catalog.settle()
    return LocalParticipant(settings, catalog, ModelRegistry(*served, default_name=catalog.default_name), collectors)
