"""What was saved is loaded by the next start, from the newest format and an older one."""

import sqlite3
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.artifact import Artifact, read_artifact
from runtime.drift.baseline import parse_baseline
from runtime.errors import StateError
from runtime.statistics.windows import Span
from runtime.store import sqlite
from runtime.store.binary import is_binary
from runtime.store.kept import Kept, kept_version
from runtime.store.sqlite import StateStore
from service.settings import EMBEDDED
from tests.runtime.store.conftest import content, save

KEPT = Path(__file__).parents[1] / "kept"


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
