"""A rollout's decisions, with participants that only note their orders."""

import time
from pathlib import Path

import pytest

from runtime.artifact import Artifact
from runtime.errors import ArtifactError, Unavailable, UnknownModel
from service.repository.catalog import Catalog
from service.repository.change import DROP, PREPARE, SERVE, UNLOAD
from service.repository.rollout import PATIENCE, READING, Rollout
from tests.service.repository.rollouts import Jobs, RecordingParticipant, RolloutOfTwo, as_worker


@pytest.fixture
def parent(tmp_path: Path, text_artifact: Artifact) -> RolloutOfTwo:
    return RolloutOfTwo(tmp_path, text_artifact)


def test_change_counts_when_all_have_prepared_and_is_done_when_all_serve(parent: RolloutOfTwo):
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
    assert parent.is_done(number) is False
    parent.served(second)
    assert parent.is_done(number) is True and parent.rollout.idle
    assert second.outcomes == {}


def test_failure_of_one_worker_changes_nothing(parent: RolloutOfTwo):
    parent.publish("2")
    number = parent.begin()
    first, second = parent.workers
    digest = first.last[2][0].manifest.digest
    parent.prepared(first)
    parent.prepared(second, {digest: ArtifactError("It does not run.")})
    assert first.last == second.last == (DROP,)
    assert parent.versions == ["1"]
    with pytest.raises(ArtifactError, match="It does not run"):
        parent.is_done(number)


def test_failure_of_a_lower_version_leaves_that_one_out(parent: RolloutOfTwo):
    parent.publish("2")
    parent.publish("3")
    number = parent.begin()
    wanted = {artifact.manifest.version: artifact.manifest.digest for artifact in parent.workers[0].last[2]}
    assert wanted.keys() == {"2", "3"}
    for worker in parent.workers:
        parent.prepared(worker, {wanted["2"]: ArtifactError("It does not run.")})
    for worker in parent.workers:
        assert [artifact.manifest.version for artifact in worker.last[2]] == ["3"]  # another round
        parent.prepared(worker)
    for worker in parent.workers:
        parent.served(worker)
    assert parent.is_done(number) is True and parent.versions == ["1", "3"]


def test_worker_that_dies_while_it_prepares_ends_the_change(parent: RolloutOfTwo):
    """What it was to prepare may have killed it, and would kill those that come after it."""
    parent.publish("2")
    number = parent.begin()
    first, second = parent.workers
    parent.prepared(first)
    parent.rollout.left(as_worker(second))
    assert first.last == (DROP,) and parent.versions == ["1"]
    with pytest.raises(Unavailable, match="ended while it prepared, nothing was changed"):
        parent.is_done(number)


def test_worker_that_is_relieved_does_not_matter_and_its_relief_prepares(parent: RolloutOfTwo):
    parent.publish("2")
    number = parent.begin()
    first, second = parent.workers
    relief = RecordingParticipant(3)
    parent.rollout.joined(as_worker(relief))
    parent.prepared(first)
    parent.rollout.leaves(as_worker(second))
    assert parent.versions == ["1"]
    parent.prepared(relief)
    assert parent.versions == ["1", "2"] and second.last[0] == PREPARE
    parent.served(first)
    parent.rollout.left(as_worker(relief))  # once it is decided, the next one starts with it
    assert parent.is_done(number) is True


def test_answers_about_an_earlier_round_do_not_count(parent: RolloutOfTwo):
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


def test_worker_that_takes_too_long_is_not_waited_for(parent: RolloutOfTwo):
    parent.publish("2")
    number = parent.begin()
    parent.prepared(parent.workers[0])
    assert parent.rollout.due <= time.monotonic() + PATIENCE
    parent.rollout.turn(time.monotonic() + PATIENCE + 1)
    with pytest.raises(Unavailable, match="Worker 2 is not ready after 120 s, nothing was changed"):
        parent.is_done(number)
    number = parent.begin()
    for worker in parent.workers:
        parent.prepared(worker)
    parent.rollout.turn(time.monotonic() + PATIENCE + 1)
    assert parent.is_done(number) is True and parent.versions == ["1", "2"]


def test_changes_are_made_one_after_the_other(parent: RolloutOfTwo):
    parent.publish("2")
    numbers = parent.begin(), parent.ask(UNLOAD), parent.ask(UNLOAD)
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
    assert [parent.is_done(number) for number in numbers[:2]] == [True, True]
    with pytest.raises(UnknownModel, match="'texts' is not loaded, none is"):
        parent.is_done(numbers[2])


def test_without_workers_nothing_is_loaded(parent: RolloutOfTwo):
    parent.publish("2")
    for worker in parent.workers:
        parent.rollout.left(as_worker(worker))
    number = parent.begin()
    with pytest.raises(Unavailable, match="No worker answers at present"):
        parent.is_done(number)


def test_defect_concerns_who_asked_alone(
    parent: RolloutOfTwo, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(Catalog, "load", lambda *_, **__: 1 / 0)
    number = parent.begin()
    assert parent.rollout.idle and "ZeroDivisionError" in caplog.text
    with pytest.raises(Unavailable, match="has a defect"):
        parent.is_done(number)


def test_what_a_worker_cannot_load_at_its_start_is_left_out(parent: RolloutOfTwo):
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


def test_planning_may_take_its_time_elsewhere(tmp_path: Path, text_artifact: Artifact):
    jobs: Jobs = []
    parent = RolloutOfTwo(tmp_path, text_artifact, jobs)
    parent.publish("2")
    number = parent.begin()
    parent.ask(UNLOAD)
    parent.turn()
    assert [worker.orders for worker in parent.workers] == [[], []] and len(jobs) == 1
    assert not parent.rollout.idle and parent.rollout.due > time.monotonic()  # nothing to do until it is planned
    jobs.pop()()
    for worker in parent.workers:
        parent.prepared(worker)
    for worker in parent.workers:
        parent.served(worker)
    assert parent.is_done(number) is True and parent.versions == ["1", "2"]
    parent.turn()
    jobs.pop()()
    assert not jobs
    assert all(worker.last[0] == SERVE and worker.last[3] == [] for worker in parent.workers)


def test_disk_that_gives_nothing_is_given_up(tmp_path: Path, text_artifact: Artifact):
    """What it gives later changes nothing."""
    jobs: Jobs = []
    parent = RolloutOfTwo(tmp_path, text_artifact, jobs)
    parent.publish("2")
    number = parent.begin()
    parent.rollout.turn(time.monotonic() + READING + 1)
    with pytest.raises(Unavailable, match="could not be read within 120 s"):
        parent.is_done(number)
    again = parent.begin()
    late, now = jobs
    late()
    assert [worker.orders for worker in parent.workers] == [[], []]
    now()
    for worker in parent.workers:
        parent.prepared(worker)
    for worker in parent.workers:
        parent.served(worker)
    assert parent.is_done(again) is True and parent.versions == ["1", "2"]


def test_no_look_at_the_repository_begins_before_the_last_is_over(tmp_path: Path, text_artifact: Artifact):
    jobs: Jobs = []
    parent = RolloutOfTwo(tmp_path, text_artifact, jobs)
    rollout = Rollout(parent.catalog, parent.collectors, 5.0, read=lambda job, then: jobs.append(lambda: then(job())))
    assert rollout.due == pytest.approx(time.monotonic() + 5.0, abs=1.0)
    for _ in range(3):
        rollout.turn(time.monotonic() + 6.0)
    assert len(jobs) == 1
    jobs.pop()()
    assert rollout.due == pytest.approx(time.monotonic() + 5.0, abs=1.0)


def test_requester_that_has_ended_keeps_no_change_from_being_made(parent: RolloutOfTwo):
    parent.publish("2")
    parent.begin()
    first, second = parent.workers
    parent.rollout.leaves(as_worker(first))
    parent.prepared(second)
    parent.served(second)
    assert parent.rollout.idle and parent.versions == ["1", "2"]
