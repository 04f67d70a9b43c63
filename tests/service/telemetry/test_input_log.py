"""The input log: a sample of what was asked, bounded, without what must not be kept; a full disk disturbs nobody."""

import fcntl
import json
import logging
import os
import re
import socket
import stat
import time
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
from pydantic import ValidationError
from starlette.testclient import TestClient

from runtime.artifact import Artifact
from runtime.drift.baseline import read_baseline
from runtime.errors import SettingError
from runtime.graph.encoder import Encoder
from service.inference.engine import Engine
from service.inference.registry import ModelRegistry
from service.settings import Settings
from service.telemetry.input_log import ENDED, FILES, KEPT, REDACTED, InputLog, is_written, redacted
from tests.apps import make_app
from tests.conftest import settings_for
from tests.helpers import Export, random_sequences
from tests.serving import served

SECRET = "mail bob@example.org or call 030 1234 5678, it is urgent"
DEFAULT = re.compile(Settings().input_log_redact)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in sorted(folder.iterdir()) for line in path.read_text().splitlines()]


def settings_of(artifact: Artifact, folder: Path, **more: Any) -> Settings:
    return settings_for(artifact).model_copy(update={"input_log": folder} | more)


def ask(settings: Settings, *bodies: dict[str, Any]) -> list[dict[str, Any]]:
    with TestClient(make_app(settings, ModelRegistry(Engine(settings)))) as client:
        return [client.post("/predict", json=body, headers={"X-Request-ID": "mine"}).json() for body in bodies]


def test_line_has_what_was_answered_and_no_text(text_artifact: Artifact, tmp_path: Path):
    (answer,) = ask(settings_of(text_artifact, tmp_path), {"inputs": ["hi", SECRET], "norm_stats": True})
    found = lines(tmp_path)
    assert [(line["id"], line["row"], line["model"], line["version"]) for line in found] == [
        ("mine", 0, "texts", "1"),
        ("mine", 1, "texts", "1"),
    ]
    for line, row in zip(found, answer["predictions"], strict=True):
        assert (line["label"], line["tokens"]) == (row["label"], row["tokens"])
        assert line["score"] == pytest.approx(row["score"], abs=1e-6)
        assert line["mean_z"] == [pytest.approx(layer["mean_z"], abs=1e-3) for layer in row["norm_stats"]]
        assert line["variance_z"] == [pytest.approx(layer["variance_z"], abs=1e-3) for layer in row["norm_stats"]]
        assert "text" not in line and "bob" not in json.dumps(line)


def test_texts_are_kept_where_they_are_asked_for_without_what_is_redacted(text_artifact: Artifact, tmp_path: Path):
    usual = settings_of(text_artifact, tmp_path / "a", input_log_texts=True)
    ask(usual, {"inputs": [SECRET, "Café 😀"]}, {"inputs": "one text"})
    assert [line["text"] for line in lines(tmp_path / "a")] == [
        "mail [redacted] or call [redacted], it is urgent",
        "Café 😀",
        "one text",
    ]
    own = settings_of(text_artifact, tmp_path / "b", input_log_texts=True, input_log_redact="urgent")
    ask(own, {"inputs": "it is urgent"})
    assert [line["text"] for line in lines(tmp_path / "b")] == ["it is [redacted]"]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("since 2019 2fast@example.org", "since 2019 [redacted]"),
        ("call 030 1234 5678x@example.org", "call [redacted] [redacted]"),
        ("<bob@example.org>,ann@example.org", "[redacted]"),
        ("12345-6789 @home 1 2", "[redacted] @home 1 2"),
        ("@@a me@ it", "[redacted] me@ it"),
    ],
)
def test_addresses_and_long_numbers_are_redacted_wherever_they_meet(text: str, kept: str):
    assert redacted(text, DEFAULT) == kept


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("a" * KEPT + "b", "a" * KEPT),
        ("a " * (KEPT // 2 - 2) + "bob@example.org ann@example.org", "a " * (KEPT // 2 - 2) + REDACTED),
        ("a " * (KEPT // 2 - 1) + "1234 5678 9", "a " * (KEPT // 2 - 1) + REDACTED),
        ("a " * (KEPT // 2) + "bob@example.org", "a " * (KEPT // 2)),
    ],
)
def test_text_is_cut_and_what_is_cut_apart_is_redacted(text: str, kept: str):
    assert redacted(text, DEFAULT) == kept


@pytest.mark.parametrize("unit", ["a", "1", "@", " ", "a@", "@ ", "1 ", "1-", "1a", "12345a", "1    ", "1 1 1a", "1@ "])
def test_redaction_takes_time_in_proportion_to_the_text(unit: str):
    """65,536 characters took `\\S+@\\S+` ten seconds."""
    started = time.thread_time()
    DEFAULT.sub(REDACTED, unit * ((1 << 16) // len(unit)))
    assert time.thread_time() - started < 1


def test_slow_pattern_sees_only_the_beginning_of_a_text():
    started = time.thread_time()
    assert redacted("a" * (1 << 20), re.compile(r"\S+@\S+")) == "a" * KEPT
    assert time.thread_time() - started < 5


def test_a_share_of_the_requests_is_kept(
    text_artifact: Artifact, text_encoder: Encoder, text_export: Export, tmp_path: Path
):
    log = InputLog(Settings(input_log=tmp_path, input_log_share=0.2), Random(1))
    batch = text_encoder.run(random_sequences(text_export[1], 2))
    for _ in range(200):
        log.note(text_artifact.manifest, read_baseline(text_artifact), batch, [])
    log.close()
    assert 0.1 < len(lines(tmp_path)) / 400 < 0.3


def test_files_are_bounded_and_the_oldest_go_first(
    text_artifact: Artifact, text_encoder: Encoder, text_export: Export, tmp_path: Path
):
    log = InputLog(Settings(input_log=tmp_path, input_log_bytes=1 << 16))
    batch, baseline = text_encoder.run(random_sequences(text_export[1], 8)), read_baseline(text_artifact)
    for _ in range(60):
        log.note(text_artifact.manifest, baseline, batch, [])
    log.close()
    assert len(list(tmp_path.iterdir())) == FILES
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 1 << 16
    assert 0 < len(lines(tmp_path)) < 480  # and every line is whole


def test_full_disk_is_said_once_and_disturbs_nobody(
    text_artifact: Artifact, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("logging.handlers.RotatingFileHandler.shouldRollover", full)
    with caplog.at_level(logging.ERROR):
        answers = ask(settings_of(text_artifact, tmp_path), *[{"inputs": "hi"}] * 3)
    assert all("predictions" in answer for answer in answers)
    assert caplog.text.count("inputs are not kept until it can") == 1


def test_what_cannot_be_used_is_refused_at_the_start(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingError, match="input_log cannot be written"):
        InputLog(Settings(input_log=tmp_path / "file"))
    with pytest.raises(ValidationError, match="no regular expression"):
        Settings(input_log_redact="(")


def test_real_service_names_each_request_by_its_own_id(text_artifact: Artifact, tmp_path: Path):
    """Over the fast path, on one connection, whose requests come and go."""
    with (
        served("--model", str(text_artifact.path), "--input-log", str(tmp_path / "log")) as url,
        httpx.Client() as client,
    ):
        answers = [client.post(f"{url}/{path}", json={"inputs": "hi"}) for path in ("predict", "embed", "predict")]
        client.post(f"{url}/predict", json={"inputs": 3})
    assert [line["id"] for line in lines(tmp_path / "log")] == [answer.headers["x-request-id"] for answer in answers]


def test_files_are_for_their_owner_and_bear_host_and_process(tmp_path: Path):
    log = InputLog(Settings(input_log=tmp_path / "log"))
    log.close()
    (path,) = (tmp_path / "log").iterdir()
    assert path.name == f"inputs-{socket.gethostname()}-{os.getpid()}.jsonl"
    assert [stat.S_IMODE(each.stat().st_mode) for each in (path.parent, path)] == [0o700, 0o600]


def test_oldest_files_of_ended_processes_are_removed_and_never_one_that_is_written(tmp_path: Path):
    size = 1 << 16
    for age in range(12):
        for name in (f"inputs-elsewhere-{age}.jsonl", f"inputs-elsewhere-{age}.jsonl.1"):
            (tmp_path / name).write_bytes(bytes(size // 2))
            os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    (tmp_path / "other.jsonl").write_text("not ours")
    with (tmp_path / "inputs-elsewhere-11.jsonl").open("ab") as written:
        fcntl.flock(written, fcntl.LOCK_SH)
        InputLog(Settings(input_log=tmp_path, input_log_bytes=size)).close()
    left = {path.name for path in tmp_path.glob("inputs-elsewhere-*")}
    assert left == {f"inputs-elsewhere-{age}.jsonl{part}" for age in (*range(ENDED), 11) for part in ("", ".1")}
    assert (tmp_path / "other.jsonl").exists()


def test_file_that_is_written_is_seen_as_such_by_another_process(tmp_path: Path):
    log = InputLog(Settings(input_log=tmp_path))
    assert is_written(log.path)
    log.handler.doRollover()
    assert is_written(log.path)
    log.close()
    assert not is_written(log.path)
