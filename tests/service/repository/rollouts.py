"""A rollout whose participants only note their orders, for tests of what it decides."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runtime.artifact import Artifact
from runtime.errors import AddNormError
from service.norm_stats.pool import CollectorPool
from service.repository.catalog import Catalog
from service.repository.change import DONE, LOAD, PREPARE, SERVE, Participant
from service.repository.rollout import Rollout
from service.settings import Settings
from tests.helpers import publish


class RecordingParticipant:
    """As much of a worker as a rollout looks at."""

    def __init__(self, pid: int) -> None:
        self.orders: list[tuple[Any, ...]] = []
        self.outcomes: dict[int, AddNormError | None] = {}
        self.pid = pid

    def order(self, what: str, *arguments: Any) -> None:
        if what == DONE:
            number, error = arguments
            self.outcomes[number] = error
        else:
            self.orders.append((what, *arguments))

    @property
    def last(self) -> tuple[Any, ...]:
        return self.orders[-1]


Jobs = list[Callable[[], None]]  # that are to be run, and their results handed on


class RolloutOfTwo:
    """A rollout over texts/1, and two workers; the first asks for changes.

    Args:
        jobs: where what reads the repository waits; None: it is read at once.
    """

    def __init__(self, directory: Path, artifact: Artifact, jobs: Jobs | None = None) -> None:
        self.directory, self.artifact = directory, artifact
        publish(directory, "texts", "1", artifact)
        settings = Settings(models=directory)
        self.catalog, self.collectors = Catalog.open(settings), CollectorPool(settings, 2)
        self.collectors.open_all(self.catalog.artifacts())
        later = {} if jobs is None else {"read": lambda job, then: jobs.append(lambda: then(job()))}
        self.rollout = Rollout(self.catalog, self.collectors, **later)
        self.asked = 0
        self.workers = [RecordingParticipant(1), RecordingParticipant(2)]
        for worker in self.workers:
            self.rollout.joined(as_worker(worker))

    def publish(self, version: str) -> None:
        publish(self.directory, "texts", version, self.artifact)

    def turn(self) -> None:
        self.rollout.turn(time.monotonic())

    def ask(self, what: str = LOAD) -> int:
        self.asked += 1
        self.rollout.heard[what](as_worker(self.workers[0]), self.asked, "texts")
        return self.asked

    def begin(self) -> int:
        number = self.ask()
        self.turn()
        return number

    def is_done(self, number: int) -> bool:
        """Whether who asked was told the outcome; raises the error that it was."""
        if (error := self.workers[0].outcomes.get(number)) is not None:
            raise error
        return number in self.workers[0].outcomes

    def prepared(self, worker: RecordingParticipant, failures: dict[str, Any] | None = None) -> None:
        what, number, _ = worker.last
        assert what == PREPARE
        self.rollout.prepared(as_worker(worker), number, failures or {})

    def served(self, worker: RecordingParticipant) -> None:
        what, number, *_ = worker.last
        assert what == SERVE
        self.rollout.served(as_worker(worker), number)

    @property
    def versions(self) -> list[str]:
        return sorted(self.catalog.served["texts"])


def as_worker(worker: RecordingParticipant) -> Participant:
    return worker
