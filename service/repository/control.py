"""What can be asked of the model repository, wherever it is decided: here, or in the parent of all workers."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Protocol

from runtime.artifact import Artifact
from runtime.errors import AddNormError
from service.inference.engine import Engine
from service.inference.registry import ModelRegistry
from service.norm_stats.pool import CollectorPool
from service.repository.catalog import Catalog
from service.repository.change import Change
from service.repository.loader import (
    Engines,
    build,
    by_digest,
    log_change,
    log_failure,
    makers,
    one_thread,
    open_all,
    replan,
)
from service.settings import Settings


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


class Loader:
    """The model repository of a service of one process (a service.control.Control).

    Args:
        models: what answers now: all that the catalog says is served.
        collectors: have a collector for each of them.
    """

    def __init__(self, settings: Settings, catalog: Catalog, models: ModelRegistry, collectors: CollectorPool) -> None:
        self.settings, self.catalog, self.models, self.collectors = settings, catalog, models, collectors
        self._lock = asyncio.Lock()
        self._builder = one_thread()
        self._watching: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self.settings.watch and self.catalog.watch:
            self._watching = asyncio.create_task(self._follow(self.settings.watch))

    async def close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching
        await asyncio.to_thread(self.collectors.close)

    async def index(self, ready: bool) -> list[dict[str, str]]:
        return await asyncio.to_thread(self.catalog.index, ready)

    async def load(self, name: str, version: str | None = None) -> None:
        await self._bring_in(partial(self.catalog.load, name, version))

    async def unload(self, name: str) -> None:
        async with self._lock:
            await self._make_so(await asyncio.to_thread(self.catalog.unload, name), {})

    async def _bring_in(self, plan: Callable[[], Change]) -> None:
        async with self._lock:
            loop = asyncio.get_running_loop()
            change, fresh = await loop.run_in_executor(self._builder, self._prepare, plan)
            await self._make_so(change, fresh)

    def _prepare(self, plan: Callable[[], Change]) -> tuple[Change, Engines]:
        while True:
            change = plan()
            fresh, failures = build(makers(change.fresh, self._make))
            if not failures:
                return change, fresh
            self.catalog.reject(change, failures)

    def _make(self, artifact: Artifact) -> Engine:
        return Engine(self.settings, self.collectors.open(artifact), artifact)

    async def _make_so(self, change: Change, fresh: Engines) -> None:
        for engine in fresh.values():
            engine.start()
        engines = by_digest(self.models) | fresh
        self.models.replace(change.name, [engines[each.manifest.digest] for each in change.artifacts.values()])
        self.catalog.commit(change)
        self.catalog.release_contents()
        log_change(change)
        digests = {artifact.manifest.digest for artifact in self.catalog.artifacts()}
        await asyncio.to_thread(self.collectors.retain, digests)

    async def _follow(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            for what, name in await asyncio.to_thread(self.catalog.due):
                try:
                    if what == "follow":
                        await self._bring_in(partial(self.catalog.follow, name))
                    else:
                        await self.unload(name)
                except AddNormError as error:
                    log_failure(name, error)


def load_all(settings: Settings) -> Loader:
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
    return Loader(settings, catalog, ModelRegistry(*served, default_name=catalog.default_name), collectors)
