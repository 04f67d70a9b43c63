"""A worker's part in loading and unloading: orders come from its parent, which decides for all workers."""

import asyncio
from collections.abc import Mapping

from runtime.artifact import Artifact, read_artifact
from runtime.errors import ArtifactError
from service.inference.engine import Engine, Graphs
from service.inference.registry import ModelRegistry
from service.repository.control import Control
from service.repository.storage import Repository
from service.settings import Settings
from service.workers.channel import PARENT, WorkerEnd, gone
from service.workers.proxies import RemoteCollector


class WorkerParticipant(Control):
    """The model repository of a service of several processes, as a worker sees it."""

    def __init__(self, settings: Settings, worker_end: WorkerEnd, models: ModelRegistry) -> None:
        super().__init__(settings, models)
        self.worker_end = worker_end

    def start(self) -> None:
        super().start()
        asyncio.get_running_loop().add_reader(self.worker_end.orders.fd, self._read)

    async def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self.worker_end.orders.fd)
        await super().close()

    async def index(self, ready: bool) -> list[dict[str, str]]:
        return await asyncio.to_thread(self._index, ready)

    def _index(self, ready: bool) -> list[dict[str, str]]:
        """Reads the disk itself: the parent must not wait for one."""
        directory = None if ready else self.settings.models
        found = Repository(directory).scan() if directory is not None else {}
        entries: list[dict[str, str]] = self.worker_end.ask("index", PARENT, found)
        return entries

    async def _tell(self, what: str, *arguments: object) -> None:
        await asyncio.to_thread(self.worker_end.say, what, *arguments)

    def _read(self) -> None:
        for what, arguments in self.worker_end.orders.receive():
            self.order(what, *arguments)
        if self.worker_end.orders.ended:
            asyncio.get_running_loop().remove_reader(self.worker_end.orders.fd)
            self._abandon(gone())

    def _make(self, artifact: Artifact) -> Engine:
        """An engine over what lies where the parent read the artifact."""
        read = read_artifact(artifact.path)
        if read.manifest.digest != artifact.manifest.digest:
            raise ArtifactError(f"{artifact.path} changed while it was loaded: load it again.")
        return make_engine(self.settings, self.worker_end, {}, read)


def make_engine(settings: Settings, worker_end: WorkerEnd, graphs: Mapping[str, Graphs], artifact: Artifact) -> Engine:
    """An engine whose collector is the parent's.

    Args:
        graphs: by digest; what is not there is opened.
    """
    digest = artifact.manifest.digest
    return Engine(settings, RemoteCollector(worker_end, digest), artifact, graphs.get(digest))
