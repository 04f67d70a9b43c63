import errno
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from runtime.artifact import Artifact, check_target, read_artifact, write_artifact
from runtime.errors import ArtifactError
from runtime.manifest import MANIFEST, MODEL, TOKENIZER, sha256
from tests.helpers import reseal, rewrite


@pytest.fixture
def path(text_artifact: Artifact, tmp_path: Path) -> Path:
    """A copy of the text artifact, to be spoiled."""
    return rewrite(tmp_path / "models" / "copy" / "1", text_artifact)


def assert_refused(path: Path, *words: str) -> None:
    """Reading the artifact fails with one line that has these words."""
    with pytest.raises(ArtifactError) as caught:
        read_artifact(path)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_read_gives_back_what_was_written(path: Path, text_artifact: Artifact):
    found = read_artifact(path)
    assert found.files == text_artifact.files
    assert found.manifest == text_artifact.manifest
    assert sorted(p.name for p in path.iterdir()) == sorted([*text_artifact.files, MANIFEST])


def test_missing_directory_is_refused(tmp_path: Path):
    assert_refused(tmp_path / "nowhere", str(tmp_path / "nowhere"), "addnorm export")


def test_missing_manifest_is_refused(path: Path):
    (path / MANIFEST).unlink()
    assert_refused(path, str(path / MANIFEST), "No such file")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b'{"format": 1}'])
def test_manifest_that_is_none_is_refused(path: Path, content: bytes):
    (path / MANIFEST).write_bytes(content)
    assert_refused(path, str(path / MANIFEST), "not a manifest")


def test_manifest_of_another_format_is_refused(path: Path):
    text = (path / MANIFEST).read_text()
    (path / MANIFEST).write_text(text.replace('"format": 2', '"format": 6'))
    assert_refused(path, str(path / MANIFEST), "format")


def test_manifest_with_another_label_is_refused(path: Path):
    text = (path / MANIFEST).read_text()
    (path / MANIFEST).write_text(text.replace('"transfer"', '"transfers"'))
    assert_refused(path, str(path / MANIFEST), "altered")


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "baseline.json", "canary.json"])
def test_file_that_is_missing_half_written_or_altered_is_refused(path: Path, name: str):
    content = (path / name).read_bytes()
    for spoiled in (content[: len(content) // 2], b"", content + b"x"):
        (path / name).write_bytes(spoiled)
        assert_refused(path, str(path / name), f"{len(spoiled):,} bytes in the place of {len(content):,}")
    (path / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert_refused(path, str(path / name), "SHA-256")
    (path / name).unlink()
    assert_refused(path, str(path / name), "No such file")


@pytest.mark.parametrize(("number", "of_the_disk"), [(errno.ESTALE, True), (errno.EIO, True), (errno.ENOENT, False)])
def test_error_of_the_disk_is_told_apart_from_a_broken_artifact(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int, of_the_disk: bool
):
    def failing(*_: object, **__: object) -> bytes:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("runtime.artifact.read_regular", failing)
    with pytest.raises(ArtifactError, match="cannot be read") as caught:
        read_artifact(path)
    assert bool(caught.value.retries) == bool(pickle.loads(pickle.dumps(caught.value)).retries) == of_the_disk


def test_size_is_compared_before_anything_is_read(path: Path):
    for name in (MODEL, MANIFEST):
        with (path / name).open("ab") as file:
            file.truncate(1 << 40)
        assert_refused(path, str(path / name), "1,099,511,627,776 bytes")


def test_artifact_from_before_sizes_is_read(path: Path):
    reseal(path, sizes=None)
    assert read_artifact(path).manifest.sizes is None
    (path / MODEL).write_bytes(b"half")
    assert_refused(path, str(path / MODEL), "SHA-256")


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "baseline.json", "canary.json"])
def test_manifest_that_does_not_list_a_file_is_refused(path: Path, text_artifact: Artifact, name: str):
    reseal(path, files={n: digest for n, digest in text_artifact.manifest.files.items() if n != name})
    assert_refused(path, str(path / MANIFEST), name)


@pytest.mark.parametrize("name", ["../x", "sub/x", "/etc/hostname", "..", "", "a\0b"])
def test_file_outside_the_directory_is_refused(path: Path, text_artifact: Artifact, name: str):
    (path.parent / "x").write_bytes(b"x")
    reseal(path, files=text_artifact.manifest.files | {name: sha256(b"x")})
    assert_refused(path, str(path))


def test_text_artifact_needs_a_tokenizer_but_a_feature_artifact_does_not(feature_artifact: Artifact):
    assert TOKENIZER not in read_artifact(feature_artifact.path).files


def test_write_refuses_an_existing_target(path: Path, text_artifact: Artifact):
    before = (path / MANIFEST).read_bytes()
    with pytest.raises(ArtifactError, match=r"exists already.*--overwrite"):
        write_artifact(path, text_artifact.manifest, {MODEL: b"other"})
    assert (path / MANIFEST).read_bytes() == before


def test_write_overwrites_where_asked_to(path: Path, text_artifact: Artifact):
    rewrite(path, text_artifact, labels=["a", "b", "c"])
    assert read_artifact(path).manifest.labels == ["a", "b", "c"]
    assert [p.name for p in path.parent.iterdir()] == ["1"]


def test_written_artifact_can_be_read_by_others(path: Path):
    assert path.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(
    ("exchanges", "existing", "call", "times"),
    [
        (True, False, "fsync", 1),
        (True, False, "rename", 1),
        (True, True, "fsync", 1),
        (True, True, "rename", 1),
        (False, False, "fsync", 1),
        (False, False, "rename", 1),
        (False, True, "fsync", 1),
        (False, True, "rename", 1),
        (False, True, "rename", 2),  # which an exchange does without
        (False, True, "rename", 3),
    ],
)
def test_crash_while_writing_leaves_what_was_there(
    text_artifact: Artifact,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    existing: bool,
    call: str,
    times: int,
    exchanges: bool,
):
    path = tmp_path / "models" / "1"
    if existing:
        rewrite(path, text_artifact)
    if not exchanges:
        monkeypatch.setattr("runtime.directories.exchange", lambda *_: False)
    crash_at(monkeypatch, *((os, "fsync") if call == "fsync" else (Path, "rename")), times)
    with pytest.raises(ArtifactError, match="No space left on device") as caught:
        rewrite(path, text_artifact, labels=["a", "b", "c"])
    assert str(path) in str(caught.value)
    monkeypatch.undo()
    assert [p.name for p in path.parent.iterdir()] == ["1"] * existing
    assert not existing or read_artifact(path).manifest.labels == text_artifact.manifest.labels


def crash_at(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, times: int) -> None:
    """Makes a step of writing fail, once."""
    original = getattr(owner, name)

    def fail(*args: Any) -> Any:
        nonlocal times
        times -= 1
        if times == 0:
            raise OSError(28, "No space left on device")
        return original(*args)

    monkeypatch.setattr(owner, name, fail)


def test_unwritable_place_is_one_sentence(text_artifact: Artifact, tmp_path: Path):
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(ArtifactError, match="cannot be written"):
        write_artifact(tmp_path / "file" / "1", text_artifact.manifest, {})


def test_unwritable_place_is_told_before_the_work_and_nothing_is_left(path: Path, tmp_path: Path):
    for place in (Path("/dev/null/models/a/1"), Path("/proc/models/a/1"), path / MANIFEST / "1"):
        with pytest.raises(ArtifactError, match=r"1 cannot be written \(.*\): look at its disk and its permissions\.$"):
            check_target(place, overwrite=True)
    with pytest.raises(ArtifactError, match="exists already"):
        check_target(path, overwrite=False)
    check_target(path, overwrite=True)
    check_target(tmp_path / "new" / "a" / "1", overwrite=False)
    assert [each.name for each in tmp_path.iterdir()] == ["models"]
    assert [each.name for each in path.parent.iterdir()] == ["1"]
