"""Loads and unloads models in this process, while it answers: a new engine is built in a thread, then takes over."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

from runtime.artifact import Artifact
from runtime.errors import AddNormError, Unavailable
from service.catalog import Catalog
from service.change import Change, Failures
from service.collectors import Collectors
from service.engine import Engine
from service.models import Models
from service.settings import Settings

logger = logging.getLogger("addnorm.service")

Engines = dict[str, Engine]  # by their artifact's digest
Makers = Mapping[str, Callable[[], Engine]]  # the same, before they are made


class Loader:
    """The model repository of a service of one process (a service.control.Control).

    Args:
        models: what answers now: all that the catalog says is served.
        collectors: have a collector for each of them.
    """

    def __init__(self, settings: Settings, catalog: Catalog, models: Models, collectors: Collectors) -> None:
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
        self.catalog.let_go()
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


def open_all(settings: Settings) -> tuple[Catalog, Collectors]:
    """What the settings name, read and verified, and a collector for each artifact.

    Raises:
        ArtifactError: nothing can be served; says why.
        SettingError: a setting names what cannot be used.
    """
    catalog, collectors = Catalog.open(settings), Collectors(settings, settings.workers)
    while failures := collectors.open_all(catalog.artifacts()):
        replan(catalog, catalog.artifacts(), failures)
    return catalog, collectors


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
    catalog.let_go()
    catalog.settle()
    return Loader(settings, catalog, Models(*served, default_name=catalog.default_name), collectors)


def replan(catalog: Catalog, artifacts: Iterable[Artifact], failures: Failures) -> None:
    """Leaves out those that cannot run, for what else there is of their models; raises why if nothing is left."""
    for artifact in artifacts:
        if artifact.manifest.digest in failures:
            catalog.reject(Change(artifact.manifest.name, {}, [artifact]), failures)
            catalog.commit(catalog.mend(artifact.manifest.name))
    if not catalog.served:
        raise next(iter(failures.values()))


def makers(artifacts: Iterable[Artifact], make: Callable[[Artifact], Engine]) -> Makers:
    return {artifact.manifest.digest: partial(make, artifact) for artifact in artifacts}


def build(makers: Makers) -> tuple[Engines, dict[str, AddNormError]]:
    """The engines, and why there is none of the others; by digest."""
    engines, failures = Engines(), dict[str, AddNormError]()
    for digest, make in makers.items():
        try:
            engines[digest] = make()
        except AddNormError as error:
            failures[digest] = error
        except Exception:  # it concerns one model: the others go on
            failures[digest] = defect(digest)
    return engines, failures


def defect(what: str) -> Unavailable:
    """For one who asked for what met a defect of the service, which is logged."""
    logger.exception("defect while loading %s", what)
    return Unavailable("The service has a defect that this model shows; its log has the details.")


def one_thread() -> ThreadPoolExecutor:
    """Where sessions are built: in one thread all of them, for every thread that does keeps memory of its own."""
    return ThreadPoolExecutor(1, thread_name_prefix="addnorm-load")


def by_digest(models: Models) -> Engines:
    return {engine.manifest.digest: engine for engine in models}


def log_change(change: Change) -> None:
    if change.artifacts:
        logger.info("model %s is served in version %s", change.name, ", ".join(sorted(change.artifacts)))
    else:
        logger.info("model %s is not served any more", change.name)


def log_failure(name: str, error: AddNormError) -> None:
    logger.error("model %s stays as it was: %s", name, error)
