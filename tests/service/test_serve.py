import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.testclient import TestClient

from runtime.artifact import Artifact
from runtime.errors import ListenError, StateError
from runtime.store.kept import read_kept
from service.inference.engine import Engine
from service.repository.catalog import Catalog
from service.serve import browsable, example, greet, ignore_hangup, log_start, serve, stop_while_loading, welcome
from service.settings import Settings
from service.sockets import listen
from tests.helpers import publish

ROOT = Path(__file__).parents[2]


def addnorm(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "addnorm", *arguments]


@pytest.fixture
def server(text_artifact: Artifact) -> Iterator[subprocess.Popen[str]]:
    """`addnorm serve` in a process of its own."""
    environment = os.environ | {"ADDNORM_MODEL": str(text_artifact.path), "ADDNORM_DEVICE": "cpu"}
    command = addnorm("serve", "--port", "0")
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def announced_url(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    for line in process.stdout:
        if found := re.search(r"serves at (http://127\.0\.0\.1:\d+) ", line):
            return found[1]
    raise AssertionError("the server ended without saying where it listens")


def test_serve_answers_counts_and_stops(server: subprocess.Popen[str]):
    url = announced_url(server)
    with httpx.Client(base_url=url, trust_env=False) as client:
        answer = client.post("/predict", json={"inputs": ["what is my balance", "will it rain"]})
        tokens = sum(prediction["tokens"] for prediction in answer.json()["predictions"])
        stats = client.get("/norm-stats").json()
        chunks = client.post("/predict", content=iter([b'{"inputs": "', b"a" * (1 << 20), b'"}']))
        assert client.get("/health/ready").json()["status"] == "ready"
    assert answer.status_code == 200
    assert (stats["requests"], stats["tokens"]) == (2, tokens)
    assert (chunks.status_code, chunks.json()["code"]) == (413, "body_too_large")

    table = subprocess.run(addnorm("stats", url), cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert table.returncode == 0, table.stderr
    assert f"texts version 1: 2 requests, {tokens} tokens" in table.stdout
    assert all(layer["name"][:8] in table.stdout for layer in stats["layers"])

    server.send_signal(signal.SIGTERM)
    assert server.wait(timeout=30) == 0


def test_hangup_leaves_one_process_as_it_is(server: subprocess.Popen[str]):
    url = announced_url(server)
    server.send_signal(signal.SIGHUP)
    for _ in range(3):
        assert httpx.get(f"{url}/health/ready", trust_env=False).status_code == 200
        time.sleep(0.05)
    server.send_signal(signal.SIGTERM)
    assert server.wait(timeout=30) == 0


def test_hangup_is_answered_in_the_log(caplog: pytest.LogCaptureFixture):
    ignore_hangup(signal.SIGHUP, None)
    assert "SIGHUP is ignored" in caplog.text and "restart the service" in caplog.text


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_process_one_ends_while_it_loads(stop: signal.Signals, monkeypatch: pytest.MonkeyPatch):
    """The kernel spares it what a signal does by default."""
    if (pid := os.fork()) == 0:
        monkeypatch.setattr(os, "getpid", lambda: 1)
        stop_while_loading()
        signal.raise_signal(stop)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 128 + stop


def test_examples_are_answered(
    text_engine: Engine, feature_engine: Engine, client: TestClient, feature_client: TestClient
):
    for engine, service in (text_engine, client), (feature_engine, feature_client):
        path, body = example(engine.manifest)
        assert service.post(path, content=body).status_code == 200


def test_start_says_what_is_served_and_where(text_engine: Engine, caplog: pytest.LogCaptureFixture):
    with caplog.at_level("INFO"):
        log_start("texts", "1", text_engine.placement)
    assert "texts version 1 on CPUExecutionProvider" in caplog.text


def test_start_on_auto_says_why_there_is_no_gpu(text_engine: Engine, caplog: pytest.LogCaptureFixture):
    placement = type(text_engine.placement)("auto", "cpu", "CPUExecutionProvider", "no such library")
    with caplog.at_level("INFO"):
        log_start("texts", "1", placement)
    assert "no such library" in caplog.text


def test_taken_port_is_refused_in_one_sentence(text_artifact: Artifact):
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ListenError, match=f"127.0.0.1 port {port} cannot be listened on"):
            serve(Settings(model=text_artifact.path, port=port))


def test_welcome_names_the_models_and_asks_the_default_one(
    text_artifact: Artifact, feature_artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for version in ("9", "10"):
        publish(tmp_path, "texts", version, text_artifact)
    publish(tmp_path, "signals", "7", feature_artifact)
    with listen("127.0.0.1", 0) as listener:
        settings = Settings(models=tmp_path, default_model="texts", api_keys="k", api_key_for="reads")
        greet(listener, Catalog.open(settings), settings)
    said = capsys.readouterr().out
    assert '/norm-stats -H "Authorization: Bearer $KEY"' in said
    assert ": signals (version 7), texts (version 9, 10). Try:" in said
    assert """-d '{"inputs": "what is my account balance"}'""" in said


@pytest.mark.parametrize("kind", ["full disk", "closed pipe"])
def test_greeting_that_cannot_be_written_ends_nothing(
    text_artifact: Artifact, kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    settings = Settings(model=text_artifact.path)
    if kind == "full disk":
        file = open("/dev/full", "w")  # noqa: PTH123, SIM115
    else:
        reader, writer = os.pipe()
        os.close(reader)
        file = os.fdopen(writer, "w")
    with file, listen("127.0.0.1", 0) as listener:
        monkeypatch.setattr(sys, "stdout", file)
        greet(listener, Catalog.open(settings), settings)
        monkeypatch.undo()
    assert "standard output cannot be written" in caplog.text


@pytest.mark.parametrize(
    ("keyed", "asks", "reads"),
    [("", False, False), ("inference,reads", True, True), ("inference", True, False), ("reads,metrics", False, True)],
)
def test_welcome_shows_a_key_where_one_is_needed(keyed: str, asks: bool, reads: bool):
    said = welcome("http://a", "/predict", '{"inputs": "hi"}', "texts (version 1)", keyed).splitlines()
    ask, read = (line.strip() for line in said if "curl" in line)
    key = ' -H "Authorization: Bearer $KEY"'
    assert ask == f'curl http://a/predict{key if asks else ""} -d \'{{"inputs": "hi"}}\''
    assert read == f"curl http://a/norm-stats{key if reads else ''}"


@pytest.mark.parametrize(
    ("host", "url"),
    [("127.0.0.1", "http://127.0.0.1:80"), ("0.0.0.0", "http://localhost:80"), ("::1", "http://[::1]:80")],
)
def test_announced_url_can_be_opened(host: str, url: str):
    assert browsable(host, 80) == url


@pytest.mark.parametrize("workers", ["1", "2"])
def test_statistics_survive_a_kill_and_a_restart(text_artifact: Artifact, tmp_path: Path, workers: str):
    """A second after the last request everything is on disk; the next process goes on counting from there."""
    environment = os.environ | {"ADDNORM_MODEL": str(text_artifact.path), "ADDNORM_STATE": str(tmp_path)}
    command = addnorm("serve", "--port", "0", "--device", "cpu", "--workers", workers)
    for round_number, end in enumerate((signal.SIGKILL, signal.SIGTERM, signal.SIGTERM)):
        with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
            try:
                with httpx.Client(base_url=announced_url(process), trust_env=False) as client:
                    before = client.get("/norm-stats").json()
                    assert before["requests"] == 2 * round_number
                    recent = client.get("/norm-stats", params={"window": "5m"}).json()["window"]
                    assert recent["requests"] == 2 * round_number
                    client.post("/predict", json={"inputs": ["what is my balance", "will it rain"]})
                    assert client.get("/health/ready").json()["statistics"] == "disk"
                if end == signal.SIGKILL:
                    wait_for_requests(tmp_path, 2)
                process.send_signal(end)
                assert process.wait(10) == (-signal.SIGKILL if end == signal.SIGKILL else 0)
            finally:
                process.kill()


def kept_requests(directory: Path) -> int:
    try:
        return sum(read_kept(path).document.state.requests for path in directory.glob("*.sqlite"))
    except (sqlite3.Error, StateError):
        return 0  # copied while it was being written


def wait_for_requests(directory: Path, requests: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with tempfile.TemporaryDirectory() as copy:  # the service holds the file itself
            shutil.copytree(directory, copy, dirs_exist_ok=True)
            if kept_requests(Path(copy)) == requests:
                return
        time.sleep(0.05)
    raise AssertionError("the statistics were not written")
