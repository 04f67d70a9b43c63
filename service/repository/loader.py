"""Engines from artifacts, and what is said of those that cannot be built."""

import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Protocol, TypeVar

from runtime.artifact import Artifact
from runtime.errors import AddNormError, Unavailable
from runtime.graph.providers import may_use_gpu
from runtime.manifest import MODEL
from runtime.threads import give_way
from service.inference.engine import Engine, Graphs, open_graphs
from service.inference.registry import ModelRegistry
from service.norm_stats.pool import CollectorPool
from service.repository.catalog import Catalog
from service.repository.change import Change, Failures
from service.settings import Settings

logger = logging.getLogger("addnorm.service")

Engines = dict[str, Engine]  # by their artifact's digest
Makers = Mapping[str, Callable[[], Engine]]  # the same, before they are made
T = TypeVar("T")


def open_all(settings: Settings) -> tuple[Catalog, CollectorPool]:
    """What the settings name, read and verified, and a collector for each artifact.

    Raises:
        ArtifactError: nothing can be served; says why.
        SettingError: a setting names what cannot be used.
    """
    catalog, collectors = Catalog.open(settings), CollectorPool(settings, settings.workers)
    while failures := collectors.open_all(catalog.artifacts()):
        replan(catalog, catalog.artifacts(), failures)
    return catalog, collectors


def open_all_graphs(settings: Settings, artifacts: Iterable[Artifact]) -> dict[str, Graphs]:
    """By digest the graphs, in sessions that processes forked from here on can run: their weights are in memory once.

    A session that has threads does not survive a fork: each process opens its own.
    """
    graphs: dict[str, Graphs] = {}
    if sessions_have_threads(settings):
        return graphs
    for artifact in artifacts:
        with suppress(AddNormError):  # the worker that opens it says so
            graphs[artifact.manifest.digest] = open_graphs(artifact, settings)
            artifact.files.pop(MODEL)  # the sessions have what they need of it
    return graphs


def sessions_have_threads(settings: Settings) -> bool:
    """Whether sessions have threads of their own, or are on a GPU."""
    return settings.threads != 1 or may_use_gpu(settings.device)


def replan(catalog: Catalog, artifacts: Iterable[Artifact], failures: Failures) -> None:
    """Leaves out those that cannot run, for what else there is of their models; raises why if nothing is left."""
    for artifact in artifacts:
        if artifact.manifest.digest in failures:
            catalog.reject(Change(artifact.manifest.name, {}, [artifact]), failures)
            catalog.commit(catalog.reconcile(artifact.manifest.name))
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
    """The error for a client whose model met a defect of the service; the defect is logged."""
    logger.exception("defect while loading %s", what)
    found = Unavailable("The service has a defect that this model shows; its log has the details.")
    found.retries = 0
    return found


def suspected(message: str) -> Unavailable:
    """The error where a version may itself be why workers fail: trying again and again would cost one each time."""
    found = Unavailable(message)
    found.retries = 1
    return found


class Run(Protocol):
    """Runs a slow job, then calls `then` with its result."""

    def __call__(self, job: Callable[[], T], then: Callable[[T], None], /) -> None: ...


def run_at_once(job: Callable[[], T], then: Callable[[T], None], /) -> None:
    then(job())


def one_thread(settings: Settings) -> ThreadPoolExecutor:
    """The thread that builds all sessions. One, because every thread that builds sessions keeps memory.

    It gives way to others, unless sessions would have threads of their own, which answer: those would do so, too.
    """
    return ThreadPoolExecutor(1, "addnorm-load", None if sessions_have_threads(settings) else give_way)


def by_digest(models: ModelRegistry) -> Engines:
    return {engine.manifest.digest: engine for engine in models}


def log_change(change: Change) -> None:
    if change.artifacts:
        logger.info("model %s is served in version %s", change.name, ", ".join(sorted(change.artifacts)))
    else:
        logger.info("model %s is not served any more", change.name)


def log_failure(name: str, error: AddNormError | None) -> None:
    if error is not None:
        logger.error("model %s stays as it was: %s", name, error)
