"""The collectors of one process: one for each artifact that is served, and for the last few that were.

They go by the artifact's digest: an artifact that was exported anew under its version is another one.
"""

from collections.abc import Collection, Iterable

from runtime.artifact import Artifact
from runtime.errors import ArtifactError
from runtime.manifest import Manifest
from runtime.store.shares import Published
from service.norm_stats.collector import Collector
from service.norm_stats.interface import Delivery
from service.settings import Settings

RETIRED = 4  # collectors that stay open after their artifact was let go, for late answers and for its return


class CollectorPool:
    """Opens and closes collectors.

    Args:
        workers: processes that record to each.
    """

    def __init__(self, settings: Settings, workers: int = 1) -> None:
        self.settings, self.workers = settings, workers
        self._open: dict[str, Collector] = {}  # by digest, the longest unserved first

    def __getitem__(self, digest: str) -> Collector:
        return self._open[digest]

    def get(self, digest: str) -> Collector | None:
        return self._open.get(digest)

    def digests(self) -> list[str]:
        """Those of all that are open."""
        return list(self._open)

    def manifest(self, digest: str) -> Manifest | None:
        """The manifest of that digest; None where it is not open."""
        collector = self._open.get(digest)
        return None if collector is None else collector.manifest

    def publish(self, digest: str, sequence: int, last: bool = False) -> Published | None:
        """What a collector has counted since that sequence; None where there is none any more."""
        collector = self._open.get(digest)
        return None if collector is None else collector.publish(sequence, last)

    def deliver(self, digest: str, delivery: Delivery) -> None:
        """Gives a collector what other replicas counted."""
        if (collector := self._open.get(digest)) is not None:
            collector.deliver(delivery)

    def open(self, artifact: Artifact) -> Collector:
        """The artifact's collector. A new one resumes from the saved state.

        Raises:
            ArtifactError: the artifact's baseline cannot be used.
        """
        digest = artifact.manifest.digest
        if (collector := self._open.get(digest)) is None:
            collector = Collector(artifact, self.settings, self.workers)
            collector.siblings = self._siblings
            self._open = self._open | {digest: collector}
        return collector

    def open_all(self, artifacts: Iterable[Artifact]) -> dict[str, ArtifactError]:
        """Has a collector for each; gives why there is none, by the artifact's digest."""
        failures = {}
        for artifact in artifacts:
            try:
                self.open(artifact)
            except ArtifactError as error:
                failures[artifact.manifest.digest] = error
        return failures

    def retain(self, digests: Collection[str]) -> None:
        """Lets all go but these and the last few; what they saw is kept where the settings say so."""
        served = {digest: collector for digest, collector in self._open.items() if digest in digests}
        others = {digest: collector for digest, collector in self._open.items() if digest not in digests}
        gone = list(others)[: max(0, len(others) - RETIRED)]
        self._open = {digest: collector for digest, collector in others.items() if digest not in gone} | served
        for digest in gone:
            finish(others[digest])

    def keep(self) -> None:
        """Keeps what changed, for an owner that does so every second."""
        for collector in self._open.values():
            collector.keep()

    def close(self) -> None:
        """Saves the statistics a last time, and closes their files."""
        for collector in self._open.values():
            finish(collector)

    def _siblings(self, model: str, version: str) -> list[Collector]:
        latest_first = reversed(self._open.values())
        return [each for each in latest_first if (each.manifest.name, each.manifest.version) == (model, version)]


def finish(collector: Collector) -> None:
    collector.close()  # ends the thread that keeps it, where there is one
    collector.keep()
    collector.close()
