import logging
import sqlite3
import threading
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock, patch

import pytest

from runtime.artifact import Artifact, read_artifact
from runtime.drift.baseline import parse_baseline, read_baseline
from runtime.errors import StateError
from runtime.statistics.recorder import NormRecorder
from runtime.statistics.state import NormState
from runtime.statistics.windows import Span
from runtime.store import sqlite
from runtime.store.binary import is_binary
from runtime.store.document import StateDocument, bucket_to_dict
from runtime.store.kept import Kept, kept_version, pack_json
from runtime.store.sqlite import StateStore
from service.settings import EMBEDDED

KEPT = Path(__file__).parents[1] / "kept"


@pytest.fixture
def kept(text_artifact: Artifact) -> Kept:
    """The validation data as everything that was seen, in one time bucket a ring."""
    baseline, recorder = read_baseline(text_artifact), NormRecorder(text_artifact.manifest.layers)
    recorder.windows.add(baseline.state, 1e9)
    assert baseline.deep is not None
    recorder.windows.add_deep(baseline.deep, 1e9)
    document = StateDocument.of(text_artifact.manifest, Span(100, 200), baseline.state, baseline.deep)
    return Kept(document, recorder.buckets({}), [baseline.to_json()])


def save(store: StateStore, kept: Kept) -> None:
    """Saves as a service that then ends."""
    store.save(kept)
    store.stop()


def content(kept: Kept) -> tuple:
    buckets = [(ring, number, bucket_to_dict(state)) for ring, number, state in kept.buckets]
    return kept.document.to_dict(), sorted(buckets, key=str), kept.baselines


def test_what_was_saved_is_loaded(kept: Kept, text_artifact: Artifact, tmp_path: Path):
    save(StateStore(tmp_path / "new", text_artifact.manifest), kept)
    found = StateStore(tmp_path / "new", text_artifact.manifest).load()
    assert found is not None and content(found) == content(kept)
    assert f"{kept.document.digest[:16]}.sqlite" in [path.name for path in (tmp_path / "new").iterdir()]


def test_buckets_after_the_newest_do_not_stay_on_disk(kept: Kept, text_artifact: Artifact, tmp_path: Path):
    """They are of a start whose clock was wrong, and would come back once that time has come."""
    save(StateStore(tmp_path, text_artifact.manifest), kept)
    earlier = [bucket._replace(number=bucket.number - 2) for bucket in kept.buckets]
    save(StateStore(tmp_path, text_artifact.manifest), replace(kept, buckets=earlier))
    found = StateStore(tmp_path, text_artifact.manifest).load()
    assert found is not None
    assert sorted(each[:2] for each in found.buckets) == sorted(each[:2] for each in earlier)


def test_file_of_format_3_is_read_and_goes_on_in_the_newest(tmp_path: Path):
    """Compressed JSON, as it was kept before states were binary: 108 requests, and a baseline taken from them."""
    manifest = read_artifact(EMBEDDED).manifest
    store = StateStore(tmp_path, manifest)
    assert store.path is not None
    store.path.write_bytes((KEPT / "statistics_format_3.sqlite").read_bytes())
    found = store.load()
    assert found is not None and found.document.covered == Span(1.7e9 - 100, 1.7e9)
    assert (found.document.state.requests, found.document.state.tokens) == (108, 1014)
    assert [(bucket.ring, bucket.number) for bucket in found.buckets] == [
        ("window-10", 170000000),
        ("window-300", 5666666),
    ]
    assert parse_baseline(found.baselines[0], manifest, "it").state.requests == 108
    assert (found.replicas, found.revision) == ((), 0)
    save(store, replace(found, replicas=("a",), revision=2))
    again = StateStore(tmp_path, manifest).load()
    assert again is not None and content(again) == content(found) and (again.replicas, again.revision) == (("a",), 2)
    rows = sqlite3.connect(store.path).execute("SELECT content FROM kept WHERE name LIKE 'window%'").fetchall()
    assert all(is_binary(row) for (row,) in rows)


def test_buckets_that_are_over_are_forgotten_and_dropped_baselines_too(
    kept: Kept, text_artifact: Artifact, tmp_path: Path
):
    store = StateStore(tmp_path, text_artifact.manifest)
    store.save(kept)
    later = [bucket._replace(number=bucket.number + 1000) for bucket in kept.buckets]
    save(store, Kept(kept.document, later, []))
    found = StateStore(tmp_path, text_artifact.manifest).load()
    assert found is not None and content(found) == content(Kept(kept.document, later, []))
    assert store.newest == {bucket.ring: bucket.number for bucket in later}


def test_another_artifact_starts_its_own(kept: Kept, text_artifact: Artifact, tmp_path: Path):
    save(StateStore(tmp_path, text_artifact.manifest), kept)
    other = text_artifact.manifest.model_copy(update={"version": "2"}).sealed()
    assert StateStore(tmp_path, other).load() is None


def test_memory_keeps_nothing(kept: Kept, text_artifact: Artifact):
    store = StateStore(None, text_artifact.manifest)
    store.save(kept)
    store.start(lambda _: kept)
    store.stop()
    assert (store.storage, store.load()) == ("memory", None)


@pytest.mark.parametrize("spoiled", [b"", b"{", b"SQLite format 3\0" + b"x" * 4096])
def test_unreadable_file_is_set_aside_and_reported(
    text_artifact: Artifact, tmp_path: Path, spoiled: bytes, caplog: pytest.LogCaptureFixture, kept: Kept
):
    store = StateStore(tmp_path, text_artifact.manifest)
    assert store.path is not None
    store.path.write_bytes(spoiled)
    assert store.load() is None
    assert store.path.with_suffix(".unreadable.sqlite").read_bytes() == spoiled and not store.path.exists()
    assert "Set aside as" in caplog.text
    save(store, kept)
    assert StateStore(tmp_path, text_artifact.manifest).load() is not None


@pytest.mark.parametrize("name", ["everything", "window-10", "deep-300", "fleet"])
def test_file_with_a_spoiled_part_is_set_aside(
    kept: Kept, text_artifact: Artifact, tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
):
    store = StateStore(tmp_path, text_artifact.manifest)
    save(store, kept)
    assert store.path is not None
    for spoiled in (b"?", pack_json({"requests": 1, "replicas": 1})):
        connection = sqlite3.connect(store.path)
        with connection:
            connection.execute("UPDATE kept SET content = ? WHERE name = ?", (spoiled, name))
        connection.close()
        assert StateStore(tmp_path, text_artifact.manifest).load() is None
        assert "Set aside as" in caplog.text
        store.path.with_suffix(".unreadable.sqlite").replace(store.path)


def test_file_of_another_artifact_or_size_is_set_aside(
    kept: Kept, text_artifact: Artifact, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    few = replace(kept.document, state=NormState.empty(text_artifact.manifest.layers[:1]))
    for spoiled in (replace(kept.document, digest="f" * 64), few):
        store = StateStore(tmp_path, text_artifact.manifest)
        save(store, replace(kept, document=spoiled))
        assert StateStore(tmp_path, text_artifact.manifest).load() is None
        assert store.path is not None and not store.path.exists()
    assert "is a state of" in caplog.text and "does not fit the layers" in caplog.text


def test_full_disk_leaves_statistics_in_memory_and_says_so_once(
    kept: Kept,
    text_artifact: Artifact,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
):
    store = StateStore(tmp_path, text_artifact.manifest)
    store.save(kept)

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patched, caplog.at_level(logging.INFO):
        patched.setattr(store, "_write", full)
        store.save(kept)
        store.save(kept)
        assert store.storage == "disk_failing"
    assert caplog.text.count("database or disk is full") == 1
    assert StateStore(tmp_path, text_artifact.manifest).load() is not None  # what was kept before stays
    with caplog.at_level(logging.INFO):
        store.save(kept)
    assert store.storage == "disk" and "can be written again" in caplog.text


def test_file_that_could_not_be_looked_for_is_read_later(
    kept: Kept, text_artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    save(StateStore(tmp_path, text_artifact.manifest), kept)
    absorbed: list[Kept] = []
    store = StateStore(tmp_path, text_artifact.manifest, absorbed.append)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "exists", Mock(side_effect=PermissionError("not yours")))
        assert store.load() is None and store.storage == "disk_failing"
    store.save_changed(lambda _: kept)
    assert [content(each) for each in absorbed] == [content(kept)] and store.storage == "disk"


def test_directory_that_could_not_be_looked_into_and_holds_nothing_is_written_later(
    kept: Kept,
    text_artifact: Artifact,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    store = StateStore(tmp_path, text_artifact.manifest, lambda _: pytest.fail("nothing was there"))
    with monkeypatch.context() as patched:
        patched.setattr(Path, "exists", Mock(side_effect=PermissionError("not yours")))
        store.load()
    store.save_changed(lambda _: kept)
    assert store.storage == "disk" and "Set aside" not in caplog.text


def test_replicas_that_the_file_names_are_those_of_the_last_save_that_succeeded(
    kept: Kept, text_artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    store = StateStore(tmp_path, text_artifact.manifest)
    store.save(replace(kept, replicas=("a",)))
    with monkeypatch.context() as patched:
        patched.setattr("runtime.store.sqlite.UPSERT", "nothing that SQLite knows")
        store.save(replace(kept, replicas=("b", "a")))
    assert store.replicas == ("a",)
    store.save(replace(kept, replicas=("b", "a")))
    assert store.replicas == ("b", "a")


def test_disk_that_was_full_before_the_first_write_is_used_later(
    kept: Kept, text_artifact: Artifact, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """What failed half-way does not keep the file locked, whoever holds its error."""
    store = StateStore(tmp_path, text_artifact.manifest)
    with patch("runtime.store.sqlite.SETUP", ("BEGIN EXCLUSIVE", "nothing that SQLite knows")):
        store.save(kept)
    assert store.storage == "disk_failing" and "syntax error" in caplog.text
    store.save(kept)
    assert store.storage == "disk"


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


def test_running_store_saves_what_changed_and_once_more_at_the_end(
    kept: Kept, text_artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sqlite, "INTERVAL", 0.01)
    store, saved = StateStore(tmp_path, text_artifact.manifest), threading.Event()
    requests, save = [5], store.save

    def notice(found: Kept) -> None:
        save(found)
        saved.set()

    def read(_: dict[str, int]) -> Kept:
        return replace(kept, document=replace(kept.document, state=replace(kept.document.state, requests=requests[0])))

    monkeypatch.setattr(store, "save", notice)
    store.start(read)
    assert saved.wait(10)
    requests[0] = 6
    store.stop()
    found = StateStore(tmp_path, text_artifact.manifest).load()
    assert found is not None and found.document.state.requests == 6


def test_another_version_is_found_by_its_number(kept: Kept, text_artifact: Artifact, tmp_path: Path):
    manifest = text_artifact.manifest
    later = manifest.model_copy(update={"version": "2"}).sealed()
    store = StateStore(tmp_path, manifest)
    store.save(kept)
    with pytest.raises(StateError, match="that no other service holds open"):
        kept_version(tmp_path, later, "1")  # its service still runs
    store.stop()
    assert kept_version(tmp_path, later, "1").to_dict() == kept.document.to_dict()
    with pytest.raises(StateError, match=r"No statistics of version 7 of texts .* expected one of: 1"):
        kept_version(tmp_path, later, "7")
    with pytest.raises(StateError, match="ADDNORM_STATE"):
        kept_version(None, later, "1")
