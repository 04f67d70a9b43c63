"""Log lines say which request they are about, and never what it said."""

import io
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from runtime.artifact import Artifact
from service.inference.engine import Engine
from service.inference.registry import ModelRegistry
from service.settings import Settings
from service.telemetry.logging import REQUEST_ID, JsonFormatter, TextFormatter, configure_logging, stack
from tests.apps import make_app
from tests.conftest import settings_for
from tests.service.test_serve import announced_url

ROOT = Path(__file__).parents[3]
SECRET = "xyzzy"


@pytest.fixture(params=[TextFormatter, JsonFormatter])
def written(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    """What is logged, formatted as the service formats it."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(request.param())
    handler.addFilter(lambda record: not record.name.startswith(("http", "asyncio")))  # the client's own
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel("DEBUG")
    yield stream
    root.removeHandler(handler)
    root.setLevel(level)


def client_with(engine: Engine, artifact: Artifact, **changes: Any) -> TestClient:
    settings = settings_for(artifact).model_copy(update=changes)
    return TestClient(make_app(settings, ModelRegistry(engine)), raise_server_exceptions=False)


def ask_all_kinds(client: TestClient) -> None:
    """Requests with SECRET wherever a client can put it."""
    headers = {"X-Request-ID": "abc-1", "X-Secret": SECRET, "Authorization": f"Bearer {SECRET}"}
    client.post("/predict", json={"inputs": SECRET}, headers=headers)
    client.post("/predict", content=f'{{"inputs": "{SECRET}"', headers=headers)
    client.post("/predict", json={"inputs": [SECRET], SECRET: SECRET}, headers=headers)
    client.post("/predict", json={"inputs": SECRET * 9000}, headers=headers)
    client.post(f"/predict?{SECRET}", json={"inputs": [[SECRET]]}, headers=headers)
    for path in (f"/norm-stats/{SECRET}", f"/{SECRET}", f"/norm-stats?window={SECRET}", f"/a%0AERROR {SECRET}"):
        client.get(path, headers=headers)


def test_nothing_that_a_request_says_is_logged(
    text_engine: Engine, text_artifact: Artifact, written: io.StringIO, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: object) -> Any:
        try:
            raise ValueError(f"inner {SECRET}")
        except ValueError as error:
            raise RuntimeError(f"outer {SECRET}") from error

    with client_with(text_engine, text_artifact, access_log=True, slow_request=1e-9) as client:
        ask_all_kinds(client)
        monkeypatch.setattr(text_engine.encoder, "run", fail)
        monkeypatch.setattr(text_engine.collector, "one_layer", fail)
        ask_all_kinds(client)
    text = written.getvalue()
    assert SECRET not in text
    assert text.count("defect while answering POST /predict") == 1
    assert text.count("defect while answering GET /norm-stats/{layer}") == 1
    assert text.count("RuntimeError") == text.count("ValueError") >= 2
    assert "test_logging.py" in text  # where it was raised
    assert "slow: GET other 404" in text and "slow: POST /predict 413" in text


def test_service_logs_nothing_that_a_request_says_and_every_line_as_json(text_artifact: Artifact):
    command = [sys.executable, "-m", "addnorm", "serve", "--port", "0", "--device", "cpu", "--workers", "1"]
    options = ["--log-level", "debug", "--log-format", "json", "--access-log", "--max-body-bytes", "20000"]
    environment = os.environ | {"ADDNORM_MODEL": str(text_artifact.path)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([*command, *options], cwd=ROOT, env=environment, **pipes) as process:  # type: ignore[call-overload]
        try:
            with httpx.Client(base_url=announced_url(process), trust_env=False) as client:
                ask_all_kinds(client)  # type: ignore[arg-type]
            process.terminate()
            _, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert SECRET not in errors
    lines = [json.loads(line) for line in errors.splitlines()]
    requests = [line for line in lines if line["logger"] == "addnorm.access"]
    assert [(line["route"], line["status"]) for line in requests] == [
        *[("/predict", status) for status in (200, 400, 400, 413, 400)],
        *[("/norm-stats/{layer}", 404), ("other", 404), ("/norm-stats", 400), ("other", 404)],
    ]
    assert {line["request_id"] for line in requests} == {"abc-1"}
    assert all(line["seconds"] > 0 and line["level"] == "info" for line in requests)
    assert not [line for line in lines if "request_id" in line and line["logger"] != "addnorm.access"]


def test_access_log_is_off_by_default(text_engine: Engine, text_artifact: Artifact, written: io.StringIO):
    with client_with(text_engine, text_artifact, slow_request=60.0) as client:
        client.post("/predict", json={"inputs": "hi"})
    assert "/predict" not in written.getvalue()


def test_text_line_ends_in_the_id_of_its_request():
    record = logging.LogRecord("a.b", logging.INFO, "", 0, "so %s", ("it is",), None)
    assert TextFormatter().format(record) == "INFO a.b: so it is"
    token = REQUEST_ID.set(b"abc")
    try:
        assert TextFormatter().format(record) == "INFO a.b: so it is [abc]"
        assert json.loads(JsonFormatter().format(record))["request_id"] == "abc"
    finally:
        REQUEST_ID.reset(token)
    line = json.loads(JsonFormatter().format(record))
    assert line.keys() == {"time", "level", "logger", "message"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", line["time"])


def test_errors_beside_requests_keep_their_words():
    try:
        raise OSError("no space left")
    except OSError as error:
        told = "\n".join(stack(error))
    assert "no space left" in told and "test_logging.py" in told


def test_logging_goes_to_standard_error_as_the_settings_want(monkeypatch: pytest.MonkeyPatch):
    handlers: dict[str, Any] = {}
    monkeypatch.setattr(logging, "basicConfig", lambda **more: handlers.update(more))
    configure_logging(Settings(log_format="json", log_level="warning"))
    (handler,) = handlers["handlers"]
    assert isinstance(handler.formatter, JsonFormatter) and handlers["level"] == "WARNING"
    configure_logging(Settings())
    assert isinstance(handlers["handlers"][0].formatter, TextFormatter)
