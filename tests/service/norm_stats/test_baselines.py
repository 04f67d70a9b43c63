"""Baselines that change by hand, by other replicas and by a file that is taken over: the highest revision wins."""

import pytest

from runtime.artifact import Artifact, read_artifact
from runtime.drift.baseline import read_baseline
from runtime.errors import InvalidInput
from service.norm_stats.baselines import NONE_TAKEN, Baselines, Taken, above
from service.settings import EMBEDDED


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    return read_artifact(EMBEDDED)


@pytest.fixture
def baselines(artifact: Artifact) -> Baselines:
    return Baselines(read_baseline(artifact), artifact.manifest)


def test_each_change_has_a_higher_revision(baselines: Baselines):
    revisions = [baselines.taken.revision]
    for change in (lambda: baselines.take(baselines.own), lambda: baselines.take(baselines.own), baselines.drop):
        change()
        revisions.append(baselines.taken.revision)
    assert revisions == sorted(set(revisions)) and revisions[0] == 0
    assert baselines.taken.contents == (baselines.own.to_json(),)
    baselines.drop()
    assert baselines.in_force is baselines.own
    with pytest.raises(InvalidInput, match="nothing to undo"):
        baselines.drop()


def test_only_higher_revisions_are_followed(baselines: Baselines):
    newest = Taken(above(above(0)), (baselines.own.to_json(),))
    for taken in (newest, Taken(newest.revision, ()), Taken(above(0), ()), NONE_TAKEN):
        baselines.follow(taken)
        assert baselines.taken == newest
    assert baselines.in_force is not baselines.own


def test_those_that_cannot_be_read_change_nothing(baselines: Baselines, caplog: pytest.LogCaptureFixture):
    baselines.take(baselines.own)
    before = baselines.taken
    for use in (baselines.follow, baselines.resume):
        use(Taken(above(before.revision), (baselines.own.to_json(), b"{}")))
        assert baselines.taken == before
    assert "A baseline of another replica is not" in caplog.text and "A kept baseline is not" in caplog.text


@pytest.mark.parametrize("newer", [False, True])
def test_file_that_is_taken_over_after_the_fleets_were_followed(baselines: Baselines, newer: bool):
    content = baselines.own.to_json()
    followed = Taken(above(above(0)), (content,))
    kept = Taken(above(followed.revision) if newer else above(0), (content, content))
    baselines.follow(followed)
    baselines.resume(kept)
    assert baselines.taken == (kept if newer else followed)


def test_file_that_is_taken_over_at_the_start_is_gone_on_from(baselines: Baselines):
    kept = Taken(above(0), (baselines.own.to_json(),))
    baselines.resume(kept)
    assert baselines.taken == kept and baselines.in_force is not baselines.own
