"""The document itself, and the statuses that take a special service to be seen."""

import json
import os
import re
from typing import Any

import pytest
from starlette.testclient import TestClient

from runtime.artifact import Artifact
from service.inference.engine import Engine
from service.inference.registry import ModelRegistry
from tests.apps import make_app, reporter_of
from tests.conftest import settings_for
from tests.service.api.contract import DOCUMENT, KNOWN, SNAPSHOT, load

RENEW = "RENEW=1 python -m pytest tests/service/http/test_openapi.py"
OPERATIONS = [(method, path) for path, item in DOCUMENT["paths"].items() for method in item]
schema = load()


def ask(client: TestClient, method: str, path: str, **arguments: Any) -> int:
    """The status of an answer that is as the document promises."""
    url = re.sub(r"\{(\w+)\}", lambda match: KNOWN[match[1]], path)
    response = client.request(method, url, **arguments)
    schema[path][method].validate_response(response)
    assert str(response.status_code) in schema[path][method].definition.raw["responses"]
    return response.status_code


def test_document_is_the_promised_one(client: TestClient):
    served = json.dumps(client.get("/openapi.json").json(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    if os.environ.get("RENEW"):
        SNAPSHOT.write_text(served)
        return
    assert json.loads(served) == DOCUMENT, f"The API changed. If it is meant, renew {SNAPSHOT.name} with: {RENEW}"
    assert served == SNAPSHOT.read_text(), f"{SNAPSHOT.name} is written otherwise, renew it with: {RENEW}"


def test_document_is_written_once(client: TestClient, monkeypatch: pytest.MonkeyPatch):
    """Anybody may ask for it, without a key: it must cost nothing."""
    first = client.get("/openapi.json").content
    monkeypatch.setattr("service.http.openapi.to_json", None)
    monkeypatch.setattr("service.http.openapi.completed", None)
    assert client.get("/openapi.json").content == first


def test_document_names_no_status_that_is_never_sent():
    statuses = {status for item in DOCUMENT["paths"].values() for each in item.values() for status in each["responses"]}
    assert statuses == {"200", "400", "401", "403", "404", "409", "413", "429", "500", "501", "503", "504"}
    assert "HTTPValidationError" not in json.dumps(DOCUMENT)


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_request_without_a_key_is_answered_as_promised(
    text_engine: Engine, text_artifact: Artifact, method: str, path: str
):
    keys = {"api_keys": "secret", "api_key_for": "inference,reads,metrics,health"}
    client = TestClient(make_app(settings_for(text_artifact).model_copy(update=keys), ModelRegistry(text_engine)))
    assert ask(client, method, path) == 401
    assert ask(client, method, path, headers={"X-API-Key": "secret"}) != 401
    assert ask(client, method, path, headers={"Authorization": "Bearer secret"}) != 401


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_body_that_is_too_large_is_answered_as_promised(client: TestClient, method: str, path: str):
    assert ask(client, method, path, content=b" " * 20_001) == 413


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_service_without_its_default_model_answers_as_promised(text_artifact: Artifact, method: str, path: str):
    with TestClient(make_app(settings_for(text_artifact), ModelRegistry(default_name="texts"))) as client:
        status = ask(client, method, path, content=json.dumps(example(method, path)))
    asked = ("/predict", "/embed", "/rerank", "/similarity", "/tokenize", "/model", "/health/ready")
    needs_it = path in asked or path.startswith("/norm-stats")
    assert (status == 503) is needs_it


@pytest.mark.parametrize(("method", "path"), [each for each in OPERATIONS if each[0] == "post"])
def test_full_service_answers_as_promised(text_engine: Engine, text_artifact: Artifact, method: str, path: str):
    settings, models = settings_for(text_artifact).model_copy(update={"max_in_flight": 1}), ModelRegistry(text_engine)
    reporter = reporter_of(settings, models)
    reporter.request_log.counters.in_flight = 5
    client = TestClient(make_app(settings, models, reporter=reporter))
    is_inference = "429" in DOCUMENT["paths"][path][method]["responses"]
    assert (ask(client, method, path) == 429) is is_inference


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_defect_is_answered_as_promised(client: TestClient, monkeypatch: pytest.MonkeyPatch, method: str, path: str):
    monkeypatch.setattr("service.http.bodies.announces_more", lambda *_: 1 / 0)
    assert ask(client, method, path) == 500


def example(method: str, path: str) -> Any:
    """The example of the document; an empty body where there is none."""
    content = DOCUMENT["paths"][path][method].get("requestBody", {}).get("content", {})
    return content.get("application/json", {}).get("example", {})
