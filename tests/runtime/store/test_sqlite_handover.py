"""One service at a time writes a file: the next one adds what was left before it writes anything."""

from dataclasses import replace
from pathlib import Path

import pytest

from runtime.artifact import Artifact
from runtime.statistics.state import NormState
from runtime.store.kept import Kept
from runtime.store.sqlite import StateStore


def test_two_processes_do_not_write_one_file(
    kept: Kept, text_artifact: Artifact, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    first, second = (StateStore(tmp_path, text_artifact.manifest) for _ in range(2))
    first.save(kept)
    assert second.load() is None and "belongs to a running service" in caplog.text
    second.save_changed(lambda _: kept)
    assert (first.storage, second.storage) == ("disk", "disk_failing")
    assert "database is locked" in caplog.text
    first.stop()
    second.stop()
    assert StateStore(tmp_path, text_artifact.manifest).load() is not None


def test_what_another_service_left_is_added_before_anything_is_written(
    kept: Kept, text_artifact: Artifact, tmp_path: Path
):
    """A rolling update: the new service finds the directory busy, and has it once the old one has ended."""
    old, absorbed = StateStore(tmp_path, text_artifact.manifest), list[Kept]()
    old.save(kept)
    new = StateStore(tmp_path, text_artifact.manifest, absorbed.append)
    assert new.load() is None
    mine = replace(kept, document=replace(kept.document, state=NormState.empty(text_artifact.manifest.layers)))
    new.save_changed(lambda _: mine)
    later = replace(kept, document=replace(kept.document, state=kept.document.state.merge(kept.document.state)))
    old.save(later)
    old.stop()
    new.save(mine)  # it has nothing to write before it has read
    assert not absorbed and new.storage == "disk_failing"
    new.save_changed(lambda _: absorbed[0])
    new.stop()
    assert [each.document.to_dict() for each in absorbed] == [later.document.to_dict()]
    assert absorbed[0].buckets == later.buckets or len(absorbed[0].buckets) == len(later.buckets)
    found = StateStore(tmp_path, text_artifact.manifest).load()
    assert found is not None and found.document.to_dict() == later.document.to_dict()
    assert new.storage == "disk"


def test_a_service_that_started_before_the_other_had_written_adds_it_too(
    kept: Kept, text_artifact: Artifact, tmp_path: Path
):
    """Both start within the second after which the first one writes."""
    old, absorbed = StateStore(tmp_path, text_artifact.manifest), list[Kept]()
    new = StateStore(tmp_path, text_artifact.manifest, absorbed.append)
    assert old.load() is None and new.load() is None
    old.save_changed(lambda _: kept)
    mine = replace(kept, document=replace(kept.document, state=NormState.empty(text_artifact.manifest.layers)))
    new.save_changed(lambda _: mine)
    assert (old.storage, new.storage, absorbed) == ("disk", "disk_failing", [])
    old.stop()
    new.save_changed(lambda _: absorbed[0])
    new.stop()
    assert [each.document.to_dict() for each in absorbed] == [kept.document.to_dict()]
    found = StateStore(tmp_path, text_artifact.manifest).load()
    assert found is not None and found.document.to_dict() == kept.document.to_dict()


def test_what_another_service_left_and_nobody_can_read_is_set_aside(
    kept: Kept, text_artifact: Artifact, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    old = StateStore(tmp_path, text_artifact.manifest)
    old.save(replace(kept, document=replace(kept.document, digest="f" * 64)))
    new = StateStore(tmp_path, text_artifact.manifest, lambda _: pytest.fail("absorbed what is another model's"))
    new.load()
    old.stop()
    new.save_changed(lambda _: kept)
    new.stop()
    assert "is a state of" in caplog.text and len(list(tmp_path.glob("*.unreadable.sqlite"))) == 1
    assert StateStore(tmp_path, text_artifact.manifest).load() is not None
