"""Several programs write one version at the same time, or one reads what another replaces."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Event
from typing import Any

import pytest

from runtime.artifact import Artifact, read_artifact, read_regular, write_artifact, write_files
from runtime.errors import ArtifactError
from runtime.manifest import MANIFEST, TOKENIZER
from tests.helpers import rewrite


def test_one_of_those_that_write_a_version_at_the_same_time_wins_and_the_other_is_told(
    text_artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path, both = tmp_path / "models" / "1", Barrier(2, timeout=60)
    monkeypatch.setattr("runtime.artifact.write_files", lambda *args: (write_files(*args), both.wait()))

    def write(label: str) -> str:
        manifest = text_artifact.manifest.model_copy(update={"labels": [label, "b"]})
        try:
            return write_artifact(path, manifest, text_artifact.files).manifest.labels[0]
        except ArtifactError as error:
            return str(error)

    with ThreadPoolExecutor(2) as pool:
        said = sorted(pool.map(write, ["a", "z"]), key=len)
    assert said[0] == read_artifact(path).manifest.labels[0]
    assert said[1].endswith("exists already: choose another version, or pass --overwrite.")
    assert [each.name for each in path.parent.iterdir()] == ["1"]


def test_version_that_is_replaced_while_it_is_read_is_read_again(
    text_artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path, replaced = rewrite(tmp_path / "1", text_artifact), 0

    def read(*args: Any, **named: Any) -> bytes:
        nonlocal replaced
        content = read_regular(*args, **named)
        if args[0].name == MANIFEST and replaced < 3:
            replaced += 1
            rewrite(path, text_artifact, {TOKENIZER: b"{}" + b" " * replaced})
        return content

    monkeypatch.setattr("runtime.artifact.read_regular", read)
    assert read_artifact(path).files[TOKENIZER] == b"{}   "
    assert replaced == 3


def test_version_that_is_replaced_again_and_again_can_be_read_at_all_times(text_artifact: Artifact, tmp_path: Path):
    path, ended = rewrite(tmp_path / "1", text_artifact), Event()
    found = list[bytes]()
    tokenizers = [text_artifact.files[TOKENIZER], b"{}"]

    def write() -> int:
        count = 0
        while not ended.is_set():
            rewrite(path, text_artifact, {TOKENIZER: tokenizers[count % 2]}, labels=["a", f"b{count}"])
            count += 1
        return count

    with ThreadPoolExecutor(1) as pool:
        writes = pool.submit(write)
        try:
            while not writes.done() and (len(found) < 200 or len({*found}) < 2):
                found.append(read_artifact(path).files[TOKENIZER])
        finally:
            ended.set()
        assert writes.result() > 0
    assert {*found} == {*tokenizers}
