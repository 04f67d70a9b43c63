"""A service that is told to stop says at once that it is not ready, answers what it accepted, and exits with 0."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from starlette.testclient import TestClient

from runtime.artifact import Artifact
from service.inference.engine import Engine
from service.inference.registry import ModelRegistry
from service.process import make_reporter
from service.telemetry.aggregator import Aggregator
from tests.apps import make_app
from tests.conftest import settings_for
from tests.helpers import rewrite
from tests.service.test_serve import addnorm

ROOT = Path(__file__).parents[3]
BODY = json.dumps({"inputs": ["what is my balance", "hi"]}).encode()
alone_and_together = pytest.mark.parametrize("workers", [1, 2])


@dataclass
class Started:
    process: subprocess.Popen[str]
    url: str

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    def signal(self, number: int) -> float:
        """Sends a signal; gives the time."""
        self.process.send_signal(number)
        return time.monotonic()


@contextmanager
def started(artifact: Artifact, workers: int, *options: str) -> Iterator[Started]:
    command = addnorm("serve", "--port", "0", "--device", "cpu", "--workers", str(workers), *options)
    environment = os.environ | {"ADDNORM_MODEL": str(artifact.path)}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Started(process, url_of(process))
        finally:
            process.terminate()
            process.wait(40)


def url_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    for line in process.stdout:
        if "AddNorm serves at " in line:
            return line.split("serves at ")[1].split()[0]
    raise AssertionError("the service ended without saying where it listens")


def wait_until_not_ready(client: httpx.Client, since: float) -> float:
    """How long it took until /health/ready was 503."""
    while client.get("/health/ready").status_code != 503:
        assert time.monotonic() < since + 5
    return time.monotonic() - since


@alone_and_together
def test_draining_service_is_not_ready_but_answers_and_then_ends(text_artifact: Artifact, workers: int):
    with (
        started(text_artifact, workers, "--drain-delay", "1.5") as service,
        httpx.Client(base_url=service.url, trust_env=False) as client,
    ):
        assert client.get("/health/ready").status_code == 200
        since = service.signal(signal.SIGTERM)
        assert wait_until_not_ready(client, since) < 0.5
        answer = client.get("/health/ready").json()
        assert answer["code"] == "unavailable" and "stopping" in answer["error"]
        while time.monotonic() < since + 1.2:
            with httpx.Client(base_url=service.url, trust_env=False) as another:  # over a new connection
                assert another.post("/predict", content=BODY).status_code == 200
                assert another.get("/health/ready").status_code == 503
                assert another.get("/health/live").status_code == 200
        client.close()
        assert service.process.wait(20) == 0
        assert 1.4 < time.monotonic() - since < 5


@alone_and_together
def test_second_signal_ends_the_delay(text_artifact: Artifact, workers: int):
    with started(text_artifact, workers, "--drain-delay", "60") as service:
        with httpx.Client(base_url=service.url, trust_env=False) as client:
            wait_until_not_ready(client, service.signal(signal.SIGTERM))
        since = service.signal(signal.SIGTERM)
        assert service.process.wait(20) == 0
        assert time.monotonic() - since < 10


@alone_and_together
def test_accepted_requests_are_answered_before_the_end(text_artifact: Artifact, workers: int):
    with started(text_artifact, workers) as service:
        head = f"POST /predict HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: {len(BODY)}\r\n\r\n"
        connections = [socket.create_connection(("127.0.0.1", service.port), timeout=20) for _ in range(6)]
        for connection in connections:
            connection.sendall(head.encode())
            assert b"100 Continue" in connection.recv(1000)
        since = service.signal(signal.SIGTERM)
        time.sleep(0.5)
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", service.port), timeout=5).close()
        for connection in connections:
            connection.sendall(BODY)
            assert b"200 OK" in connection.makefile("rb").readline()
            connection.close()
        assert service.process.wait(20) == 0
        assert time.monotonic() - since < 10


def test_ready_asks_whoever_knows_that_the_service_stops(text_engine: Engine, text_artifact: Artifact):
    aggregator = Aggregator()
    settings, models = settings_for(text_artifact), ModelRegistry(text_engine)
    reporter = make_reporter(settings, models, aggregator.open())
    with TestClient(make_app(settings, models, reporter=reporter)) as client:
        assert client.get("/health/ready").status_code == 200
        aggregator.stopping = True
        response = client.get("/health/ready")
        assert (response.status_code, response.json()["code"]) == (503, "unavailable")
        assert client.post("/predict", content=BODY).status_code == 200


@alone_and_together
def test_device_that_cannot_be_had_is_never_ready(text_artifact: Artifact, workers: int):
    command = addnorm("serve", "--port", "0", "--device", "cuda", "--workers", str(workers))
    environment = os.environ | {"ADDNORM_MODEL": str(text_artifact.path), "ADDNORM_LOG_LEVEL": "error"}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stdout) == (2, "")
    *before, said = run.stderr.splitlines()
    assert said.startswith("addnorm: Device cuda is not available: ")
    assert len(before) == (workers == 1)  # which logs the model that cannot be served


def test_port_is_listened_on_only_once_the_model_ran(text_artifact: Artifact, tmp_path: Path):
    """An artifact whose graph does not give what it gave at export ends the start; nothing says that it is ready."""
    canary = json.loads(text_artifact.files["canary.json"])
    canary["logits"][0][0] += 1.0
    path = rewrite(tmp_path / "texts" / "1", text_artifact, {"canary.json": json.dumps(canary).encode()})
    for workers in ("1", "2"):
        command = addnorm("serve", "--port", "0", "--device", "cpu", "--model", str(path), "--workers", workers)
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert (run.returncode, run.stdout) == (2, "")
        assert "does not reproduce its canary" in run.stderr
