"""What can be asked of the model repository, wherever it is decided: here, or in the parent of all workers."""

import asyncio
import time
from asyncio import TimerHandle
from collections.abc import Callable
from math import inf
from typing import Protocol, TypeVar

from runtime.artifact import Artifact
from runtime.errors import Unavailable
from service.inference.engine import Engine
from service.inference.registry import ModelRegistry
from service.norm_stats.pool import CollectorPool
from service.repository.catalog import Catalog
from service.repository.change import LOAD, SERVED, UNLOAD
from service.repository.loader import Engines, build, makers, one_thread, open_all, replan
from service.repository.participant import LocalParticipant
from service.repository.rollout import Rollout
from service.settings import Settings

T = TypeVar("T")


class Control(Protocol):
    def start(self) -> None:
        """Begins to do its part, in the event loop."""

    async def close(self) -> None:
        """Ends its part."""

    async def index(self, ready: bool) -> list[dict[str, str]]:
        """Every model and version: name, version, state (READY or UNAVAILABLE), reason."""

    async def load(self, name: str, version: str | None) -> None:
        """Serves a model's highest versions, or one version more; returns when they answer.

        Raises:
            AddNormError: nothing changed; says why.
        """

    async def unload(self, name: str) -> None:
        """Serves a model no more; what was accepted is answered.

        Raises:
            AddNormError: nothing changed; says why.
        """


class LocalControl:
    """The model repository of a service of one process (a Control): a rollout whose only participant is this process.

    Args:
        models: what answers now: all that the catalog says is served.
        collectors: have a collector for each of them.
    """

    def __init__(self, settings: Settings, catalog: Catalog, models: ModelRegistry, collectors: CollectorPool) -> None:
        self.settings, self.catalog, self.models, self.collectors = settings, catalog, models, collectors
        self._builder = one_thread()
        self._participant = LocalParticipant(models, self._make, self._tell, self._builder)
        # what is built here cannot be lost as a worker can: it has the time that it needs
        self._rollout = Rollout(catalog, collectors, settings.watch if catalog.watch else None, inf, self._run)
        self._rollout.joined(self._participant)
        self._timer: TimerHandle | None = None
        self._closing = False

    def start(self) -> None:
        self._closing = False
        self._participant.start()
        self._turn()

    async def close(self) -> None:
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        await self._participant.close(Unavailable("The service is stopping: ask another one."))
        await asyncio.get_running_loop().run_in_executor(self._builder, self.collectors.close)

    async def index(self, ready: bool) -> list[dict[str, str]]:
        return await asyncio.to_thread(self.catalog.index, ready)

    async def load(self, name: str, version: str | None = None) -> None:
        await self._participant.request(LOAD, name, version)

    async def unload(self, name: str) -> None:
        await self._participant.request(UNLOAD, name)

    def _make(self, artifact: Artifact) -> Engine:
        engine = Engine(self.settings, self.collectors.open(artifact), artifact)
        engine.start()
        return engine

    async def _tell(self, what: str, *arguments: object) -> None:
        self._rollout.heard[what](self._participant, *arguments)
        if what == SERVED:
            self.catalog.release_contents()  # the sessions have what they need of them
        self._turn()

    def _run(self, job: Callable[[], T], then: Callable[[T], None]) -> None:
        """Does a job of the rollout in the thread that builds, beside the event loop."""

        def finish(future: asyncio.Future[T]) -> None:
            try:
                then(future.result())
            finally:
                self._turn()

        asyncio.get_running_loop().run_in_executor(self._builder, job).add_done_callback(finish)

    def _turn(self) -> None:
        """Lets the rollout do what is due: now, and when there is more."""
        if self._closing:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._rollout.turn(time.monotonic())
        if (due := self._rollout.due) < inf:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, due - time.monotonic()), self._turn)


def load_all(settings: Settings) -> LocalControl:
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
    return LocalControl(settings, catalog, ModelRegistry(*served, default_name=catalog.default_name), collectors)
