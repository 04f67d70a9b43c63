"""What a watched repository's failed changes come to: those that failed for a passing reason are tried again."""

import errno
from pathlib import Path

import pytest

from runtime import artifact as reading
from runtime.artifact import Artifact
from runtime.errors import ArtifactError
from service.repository.change import PREPARE
from service.repository.loader import defect
from service.repository.rollout import Rollout
from service.repository.storage import Repository, RepositoryPoller
from tests.service.repository.rollouts import RecordingParticipant, RolloutOfTwo, as_worker


class Watching(RolloutOfTwo):
    """The same, of a repository that is looked at; version 2 has come since."""

    def __init__(self, directory: Path, artifact: Artifact) -> None:
        super().__init__(directory, artifact)
        self.catalog.watch = RepositoryPoller(Repository(directory))
        members, self.rollout = self.rollout.members, Rollout(self.catalog, self.collectors, watch=5.0)
        self.rollout.members = members
        self.publish("2")
        self.look()

    def look(self) -> None:
        """Looks, and begins what is due."""
        self.rollout.next_look = 0.0
        self.turn()
        self.turn()

    def finish(self) -> None:
        for worker in self.workers:
            self.prepared(worker)
        for worker in self.workers:
            self.served(worker)


@pytest.fixture
def parent(tmp_path: Path, text_artifact: Artifact) -> Watching:
    return Watching(tmp_path, text_artifact)


def test_worker_that_is_lost_while_it_prepares_costs_one_try(parent: Watching):
    parent.look()
    assert parent.workers[1].last[0] == PREPARE
    parent.rollout.left(as_worker(parent.workers[1]))
    assert parent.rollout.idle and parent.versions == ["1"]
    parent.workers[1] = RecordingParticipant(3)
    parent.rollout.joined(as_worker(parent.workers[1]))
    parent.look()
    parent.finish()
    assert parent.versions == ["1", "2"] and parent.rollout.idle


def test_version_that_costs_workers_is_tried_once_more_alone(parent: Watching):
    """It may be what ends them, and each try costs all that load it."""
    for started in range(3, 7):
        parent.look()
        if not parent.workers[1].orders:
            break
        parent.rollout.left(as_worker(parent.workers[1]))
        parent.workers[1] = RecordingParticipant(started)
        parent.rollout.joined(as_worker(parent.workers[1]))
    assert started == 5, "two tries"
    orders = len(parent.workers[0].orders)
    for _ in range(300):
        parent.look()
    assert len(parent.workers[0].orders) == orders and parent.versions == ["1"]


def test_defects_are_not_tried_again():
    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        assert defect("model texts").retries == 0


def test_without_workers_it_is_tried_again_when_there_are_some(parent: Watching):
    for worker in parent.workers:
        parent.rollout.leaves(as_worker(worker))
    parent.look()
    assert parent.rollout.idle and parent.versions == ["1"]
    for worker in parent.workers:
        parent.rollout.joined(as_worker(worker))
    parent.look()
    parent.finish()
    assert parent.versions == ["1", "2"]


def test_disk_that_gives_an_error_is_read_again(parent: Watching, monkeypatch: pytest.MonkeyPatch):
    def stale(*_: object, **__: object) -> bytes:
        raise OSError(errno.ESTALE, "Stale file handle")

    with monkeypatch.context() as patched:
        patched.setattr(reading, "read_regular", stale)
        parent.look()
    assert parent.rollout.idle and parent.versions == ["1"]
    parent.look()
    parent.finish()
    assert parent.versions == ["1", "2"]


def test_version_that_is_broken_in_itself_is_not_tried_until_it_changes(parent: Watching):
    parent.look()
    (fresh,) = parent.workers[0].last[2]
    for worker in parent.workers:
        parent.prepared(worker, {fresh.manifest.digest: ArtifactError("It does not run.")})
    orders = [len(worker.orders) for worker in parent.workers]
    for _ in range(20):
        parent.look()
    assert [len(worker.orders) for worker in parent.workers] == orders and parent.versions == ["1"]


def test_what_is_unloaded_by_hand_is_not_loaded_by_a_try_that_waits(parent: Watching):
    parent.look()
    parent.rollout.left(as_worker(parent.workers.pop()))
    parent.rollout.unload(as_worker(parent.workers[0]), 1, "texts")
    parent.turn()
    parent.served(parent.workers[0])
    for _ in range(4):
        parent.look()
    assert "texts" not in parent.catalog.served and parent.rollout.idle
