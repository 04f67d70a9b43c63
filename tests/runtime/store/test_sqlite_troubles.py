"""A file that cannot be read is set aside; a disk that cannot be written is tried again, statistics meanwhile stay."""

import logging
import sqlite3
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock, patch

import pytest

from runtime.artifact import Artifact
from runtime.statistics.state import NormState
from runtime.store.kept import Kept, pack_json
from runtime.store.sqlite import StateStore
from tests.runtime.store.conftest import content, save


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
