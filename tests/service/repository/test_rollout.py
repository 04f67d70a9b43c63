"""The parent's decisions, with workers that only note their orders."""

import time
from pathlib import Path
from typing import Any

import pytest

from runtime.artifact import Artifact
from runtime.errors import ArtifactError, Unavailable, UnknownModel
from service.norm_stats.pool import CollectorPool
from service.repository.catalog import Catalog
from service.repository.change import DROP, PREPARE, SERVE, Participant
from service.repository.rollout import PATIENCE, Rollout
from service.settings import Settings
from tests.helpers import publish


class Noting:
    """As much of a worker as a rollout looks at."""

    def __init__(self, pid: int) -> None:
        self.orders: list[tuple[Any, ...]] = []
        self.pid = pid

    def order(self, *order: Any) -> None:
        self.orders.append(order)

    @property
    def last(self) -> tuple[Any, ...]:
        return self.orders[-1]


class Parent:
    """A rollout over texts/1, and two workers."""

    def __init__(self, directory: Path, artifact: Artifact) -> None:
        self.directory, self.artifact = directory, artifact
        publish(directory, "texts", "1", artifact)
        settings = Settings(models=directory)
        self.catalog, self.collectors = Catalog.open(settings), CollectorPool(settings, 2)
        self.collectors.open_all(self.catalog.artifacts())
        self.rollout = Rollout(self.catalog, self.collectors)
        self.workers = [Noting(1), Noting(2)]
        for worker in self.workers:
            self.rollout.joined(as_worker(worker))

    def publish(self, version: str) -> None:
        publish(self.directory, "texts", version, self.artifact)

    def turn(self) -> None:
        self.rollout.turn(time.monotonic())

    def begin(self) -> int:
        number = self.rollout.begin_load("texts")
        self.turn()
        return number

    def prepared(self, worker: Noting, failures: dict[str, Any] | None = None) -> None:
        what, number, _ = worker.last
        assert what == PREPARE
        self.rollout.prepared(as_worker(worker), number, failures or {})

    def served(self, worker: Noting) -> None:
        what, number, *_ = worker.last
        assert what == SERVE
        self.rollout.served(as_worker(worker), number)

    @property
    def versions(self) -> list[str]:
        return sorted(self.catalog.served["texts"])


def as_worker(worker: Noting) -> Participant:
    return worker


@pytest.fixture
def parent(tmp_path: Path, text_artifact: Artifact) -> Parent:
    return Parent(tmp_path, text_artifact)


def test_change_counts_when_all_have_prepared_and_is_done_when_all_serve(parent: Parent):
    parent.publish("2")
    number = parent.begin()
    first, second = parent.workers
    parent.prepared(first)
    assert parent.versions == ["1"] and first.last[0] == PREPARE
    parent.prepared(second)
    assert parent.versions == ["1", "2"]
    digests = {artifact.manifest.digest for artifact in parent.catalog.artifacts()}
    assert first.last[2] == "texts" and set(first.last[3]) == digests
    parent.served(first)
    assert parent.rollout.outcome(number) is False
    parent.served(second)
    assert parent.rollout.outcome(number) is True and parent.rollout.idle
    with pytest.raises(Unavailable, match="not known any more"):
        parent.rollout.outcome(number)


def test_failure_of_one_worker_changes_nothing(parent: Parent):
    parent.publish("2")
    number = parent.begin()
    first, second = parent.workers
    digest = first.last[2][0][1]
    parent.prepared(first)
    parent.prepared(second, {digest: ArtifactError("It does not run.")})
    assert first.last == second.last == (DROP,)
    assert parent.versions == ["1"]
    with pytest.raises(ArtifactError, match="It does not run"):
        parent.rollout.outcome(number)


def test_failure_of_a_lower_version_leaves_that_one_out(parent: Parent):
    parent.publish("2")
    parent.publish("3")
    number = parent.begin()
    wanted = {path.name: digest for path, digest in parent.workers[0].last[2]}
    assert wanted.keys() == {"2", "3"}
    for worker in parent.workers:
        parent.prepared(worker, {wanted["2"]: ArtifactError("It does not run.")})
    for worker in parent.workers:
        assert [path.name for path, _ in worker.last[2]] == ["3"]  # another round
        parent.prepared(worker)
    for worker in parent.workers:
        parent.served(worker)
    assert parent.rollout.outcome(number) is True and parent.versions == ["1", "3"]


def test_worker_that_dies_while_it_prepares_ends_the_change(parent: Parent):
    """What it was to prepare may have killed it, and would kill those that come after it."""
    parent.publish("2")
    number = parent.begin()
    first, second = parent.workers
    parent.prepared(first)
    parent.rollout.left(as_worker(second))
    assert first.last == (DROP,) and parent.versions == ["1"]
    with pytest.raises(Unavailable, match="ended while it prepared, nothing was changed"):
        parent.rollout.outcome(number)


def test_worker_that_is_relieved_does_not_matter_and_its_relief_prepares(parent: Parent):
    parent.publish("2")
    number = parent.begin()
    first, second = parent.workers
    relief = Noting(3)
    parent.rollout.joined(as_worker(relief))
    parent.prepared(first)
    parent.rollout.leaves(as_worker(second))
    assert parent.versions == ["1"]
    parent.prepared(relief)
    assert parent.versions == ["1", "2"] and second.last[0] == PREPARE
    parent.served(first)
    parent.rollout.left(as_worker(relief))  # once it is decided, the next one starts with it
    assert parent.rollout.outcome(number) is True


def test_answers_about_an_earlier_round_do_not_count(parent: Parent):
    parent.publish("2")
    parent.begin()
    first, second = parent.workers
    _, stale, _ = first.last
    parent.rollout.left(as_worker(second))
    parent.begin()
    parent.rollout.prepared(as_worker(first), stale, {})
    assert parent.versions == ["1"]
    parent.prepared(first)
    assert parent.versions == ["1", "2"]


def test_worker_that_takes_too_long_is_not_waited_for(parent: Parent):
    parent.publish("2")
    number = parent.begin()
    parent.prepared(parent.workers[0])
    assert parent.rollout.due <= time.monotonic() + PATIENCE
    parent.rollout.turn(time.monotonic() + PATIENCE + 1)
    with pytest.raises(Unavailable, match="Worker 2 is not ready after 120 s, nothing was changed"):
        parent.rollout.outcome(number)
    number = parent.begin()
    for worker in parent.workers:
        parent.prepared(worker)
    parent.rollout.turn(time.monotonic() + PATIENCE + 1)
    assert parent.rollout.outcome(number) is True and parent.versions == ["1", "2"]


def test_changes_are_made_one_after_the_other(parent: Parent):
    parent.publish("2")
    numbers = parent.begin(), parent.rollout.begin_unload("texts"), parent.rollout.begin_unload("texts")
    parent.turn()
    for worker in parent.workers:
        parent.prepared(worker)
    for worker in parent.workers:
        parent.served(worker)
    assert parent.rollout.due == 0.0
    parent.turn()
    assert all(worker.last[0] == SERVE and worker.last[3] == [] for worker in parent.workers)
    for worker in parent.workers:
        parent.served(worker)
    parent.turn()
    assert [parent.rollout.outcome(number) for number in numbers[:2]] == [True, True]
    with pytest.raises(UnknownModel, match="'texts' is not loaded, none is"):
        parent.rollout.outcome(numbers[2])


def test_without_workers_nothing_is_loaded(parent: Parent):
    parent.publish("2")
    for worker in parent.workers:
        parent.rollout.left(as_worker(worker))
    number = parent.begin()
    with pytest.raises(Unavailable, match="No worker answers at present"):
        parent.rollout.outcome(number)


def test_defect_concerns_who_asked_alone(
    parent: Parent, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(parent.catalog, "load", lambda *_: 1 / 0)
    number = parent.begin()
    assert parent.rollout.idle and "ZeroDivisionError" in caplog.text
    with pytest.raises(Unavailable, match="has a defect"):
        parent.rollout.outcome(number)


def test_what_a_worker_cannot_load_at_its_start_is_left_out(parent: Parent):
    parent.publish("2")
    parent.catalog.commit(parent.catalog.load("texts"))
    digest = parent.catalog.served["texts"]["2"].manifest.digest
    for _ in parent.workers:  # each reports the same
        parent.rollout.reconcile({digest: ArtifactError("It does not run.")})
    parent.turn()
    assert parent.versions == ["1"]
    assert all(len(worker.last[3]) == 1 for worker in parent.workers)
    for worker in parent.workers:
        parent.served(worker)
    assert parent.rollout.idle
