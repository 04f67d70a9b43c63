import json
import logging
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from runtime import state_store
from runtime.artifact import Artifact
from runtime.baseline import read_baseline
from runtime.state_document import StateDocument
from runtime.state_store import StateStore
from runtime.statistics import NormState
from runtime.windows import Span


@pytest.fixture
def document(text_artifact: Artifact) -> StateDocument:
    return StateDocument.of(text_artifact.manifest, Span(100, 200), read_baseline(text_artifact).state)


def test_what_was_saved_is_loaded(document: StateDocument, text_artifact: Artifact, tmp_path: Path):
    StateStore(tmp_path / "new", text_artifact.manifest).save(document)
    again = StateStore(tmp_path / "new", text_artifact.manifest)
    found = again.load()
    assert found is not None and found.to_dict() == document.to_dict()
    assert [path.name for path in (tmp_path / "new").iterdir()] == [f"{document.digest[:16]}.json"]


def test_another_artifact_starts_its_own(document: StateDocument, text_artifact: Artifact, tmp_path: Path):
    StateStore(tmp_path, text_artifact.manifest).save(document)
    other = text_artifact.manifest.model_copy(update={"version": "2"}).sealed()
    assert StateStore(tmp_path, other).load() is None


def test_memory_keeps_nothing(document: StateDocument, text_artifact: Artifact):
    store = StateStore(None, text_artifact.manifest)
    store.save(document)
    store.start(lambda: document)
    store.stop()
    assert (store.storage, store.load()) == ("memory", None)


@pytest.mark.parametrize("content", [b"", b"{", b'{"format": 9}'])
def test_unreadable_file_is_set_aside_and_reported(
    text_artifact: Artifact, tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
):
    store = StateStore(tmp_path, text_artifact.manifest)
    assert store.path is not None
    store.path.write_bytes(content)
    assert store.load() is None
    assert store.path.with_suffix(".unreadable.json").read_bytes() == content and not store.path.exists()
    assert "Set aside as" in caplog.text


def test_file_of_another_artifact_or_size_is_set_aside(
    document: StateDocument, text_artifact: Artifact, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    few = replace(document, state=NormState.empty(text_artifact.manifest.layers[:1]))
    for spoiled in (replace(document, digest="f" * 64), few):
        store = StateStore(tmp_path, text_artifact.manifest)
        store.save(spoiled)
        assert store.load() is None and store.path is not None and not store.path.exists()
    assert "is a state of" in caplog.text and "does not fit the layers" in caplog.text


def test_full_disk_leaves_statistics_in_memory_and_says_so_once(
    document: StateDocument,
    text_artifact: Artifact,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
):
    store = StateStore(tmp_path, text_artifact.manifest)
    store.save(document)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, caplog.at_level(logging.INFO):
        patch.setattr(Path, "write_text", full)
        store.save(document)
        store.save(document)
        assert store.storage == "disk_failing"
    assert caplog.text.count("No space left on device") == 1
    assert store.load() is not None  # what was kept before stays
    with caplog.at_level(logging.INFO):
        store.save(document)
    assert store.storage == "disk" and "can be written again" in caplog.text


def test_running_store_saves_what_changed_and_once_more_at_the_end(
    document: StateDocument, text_artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(state_store, "INTERVAL", 0.01)
    store, saved = StateStore(tmp_path, text_artifact.manifest), threading.Event()
    requests, save = [5], store.save

    def notice(found: StateDocument) -> None:
        save(found)
        saved.set()

    monkeypatch.setattr(store, "save", notice)
    store.start(lambda: replace(document, state=replace(document.state, requests=requests[0])))
    assert saved.wait(10)
    requests[0] = 6
    store.stop()
    assert store.path is not None
    assert json.loads(store.path.read_bytes())["state"]["requests"] == 6
