"""Who is let in: keys beyond changes of state, requests in flight, and pages of other origins."""

import asyncio
from typing import Any

import pytest
from starlette.testclient import TestClient

from runtime.artifact import Artifact
from runtime.errors import SettingError
from service.http.admission import Admission, ApiKeys, subject_of
from service.inference.engine import Engine
from service.inference.registry import ModelRegistry
from service.settings import Settings
from service.telemetry.counters import RequestCounters
from tests.apps import make_app, reporter_of
from tests.conftest import settings_for

KEY = {"Authorization": "Bearer first"}
# what is asked for, how, and what a request that is let in gets
ASKED = [
    ("inference", "POST", "/predict", 200),
    ("reads", "GET", "/norm-stats", 200),
    ("reads", "GET", "/norm-stats/embeddings.norm", 200),
    ("reads", "GET", "/norm-stats/state", 200),
    ("reads", "GET", "/model", 200),
    ("reads", "GET", "/nowhere", 404),
    ("metrics", "GET", "/metrics", 200),
    ("metrics", "GET", "/traffic", 200),
    ("health", "GET", "/health/live", 200),
    ("health", "GET", "/health/ready", 200),
    ("public", "GET", "/docs", 200),
    ("public", "GET", "/openapi.json", 200),
    ("changes", "DELETE", "/norm-stats/baseline", 409),
]

PREDICT = {"path": "/predict", "raw_path": b"/predict", "query_string": b"", "root_path": ""}


def settings_with(artifact: Artifact, **changes: Any) -> Settings:
    return settings_for(artifact).model_copy(update=changes)


def ask(client: TestClient, method: str, path: str, **headers: str) -> Any:
    content = b'{"inputs": "hi"}' if method == "POST" else None
    return client.request(method, path, content=content, headers=headers)


@pytest.mark.parametrize("need", ["", "inference", "reads", "metrics", "health", "inference,reads,metrics,health"])
def test_keys_are_needed_for_changes_and_for_what_the_settings_say(
    text_engine: Engine, text_artifact: Artifact, need: str
):
    settings = settings_with(text_artifact, api_keys="first,second", api_key_for=need)
    with TestClient(make_app(settings, ModelRegistry(text_engine))) as client:
        for subject, method, path, status in ASKED:
            needed = subject == "changes" or subject in need.split(",")
            anonymous = ask(client, method, path)
            assert anonymous.status_code == (401 if needed else status), path
            if needed:
                assert anonymous.json()["code"] == "unauthorized"
                assert anonymous.headers["www-authenticate"] == "Bearer"
                for headers in ({"Authorization": "Bearer no"}, {"X-API-Key": "firs"}, {"X-API-Key": ""}):
                    assert ask(client, method, path, **headers).status_code == 401
            for headers in (KEY, {"X-API-Key": "second"}, {"authorization": "bEARER second"}):
                assert ask(client, method, path, **headers).status_code == status
        assert client.post("/norm-stats/baseline").status_code == 401


def test_refused_prediction_never_reaches_the_model_and_is_counted(text_engine: Engine, text_artifact: Artifact):
    settings = settings_with(text_artifact, api_keys="first", api_key_for="inference")
    with TestClient(make_app(settings, ModelRegistry(text_engine))) as client:
        assert ask(client, "POST", "/predict").headers["x-request-id"]
        assert text_engine.collector.recorder.state().requests == 0
        assert client.get("/traffic").json()["total"]["refusals"] == {"unauthorized": 1}


def test_everything_that_is_sent_is_inference_wherever_it_goes():
    for path in ("/predict", "/v1/embeddings", "/v2/models/a/infer", "/v2/models/a/versions/1/infer"):
        assert subject_of("POST", path) == "inference"
    assert subject_of("GET", "/v2/models/a") == "reads"
    assert subject_of("GET", "/v2/health/ready") == "health"
    assert subject_of("GET", "/") == "public"


def test_keys_that_are_asked_for_must_be_there():
    with pytest.raises(SettingError, match="api_key_for asks for keys and there is none"):
        ApiKeys.of(Settings(api_key_for="inference"))


def test_nothing_is_looked_at_where_nothing_is_limited():
    assert Admission(Settings(), RequestCounters()).is_open
    assert Admission(Settings(api_keys="a"), RequestCounters()).is_open
    assert not Admission(Settings(api_keys="a", api_key_for="reads"), RequestCounters()).is_open
    assert not Admission(Settings(max_in_flight=1), RequestCounters()).is_open


def test_key_may_be_of_any_characters(text_engine: Engine, text_artifact: Artifact):
    settings = settings_with(text_artifact, api_keys="schlüssel")
    with TestClient(make_app(settings, ModelRegistry(text_engine))) as client:
        headers = [(b"x-api-key", "schlüssel".encode())]
        assert client.request("DELETE", "/norm-stats/baseline", headers=headers).status_code == 409


def test_requests_beyond_the_limit_are_refused_and_reads_are_not(text_artifact: Artifact):
    settings = settings_with(text_artifact, max_in_flight=2)
    models = ModelRegistry(Engine(settings))
    reporter = reporter_of(settings, models)
    front: Any = make_app(settings, models, reporter=reporter)

    async def post() -> int:
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            await asyncio.sleep(0.05)
            return {"type": "http.request", "body": b'{"inputs": "hi"}', "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await front({"type": "http", "method": "POST", **PREDICT, "headers": []}, receive, send)
        if sent[0]["status"] == 429:
            assert dict(sent[0]["headers"])[b"retry-after"] == b"1"
        return int(sent[0]["status"])

    async def main() -> list[int]:
        return await asyncio.gather(*(post() for _ in range(5)))

    assert asyncio.run(main()) == [200, 200, 429, 429, 429]
    reporter.request_log.counters.in_flight = 2
    with TestClient(front) as client:
        response = client.post("/predict", json={"inputs": "hi"})
        assert (response.status_code, response.json()["code"]) == (429, "overloaded")
        assert client.get("/health/ready").status_code == client.get("/metrics").status_code == 200


@pytest.mark.parametrize("origins", ["https://a.example, https://b.example", "*"])
def test_pages_of_allowed_origins_may_ask_the_fast_route_too(
    text_engine: Engine, text_artifact: Artifact, origins: str
):
    settings = settings_with(text_artifact, cors_origins=origins, api_keys="first", api_key_for="inference")
    with TestClient(make_app(settings, ModelRegistry(text_engine))) as client:
        for origin, allowed in (("https://b.example", True), ("https://c.example", origins == "*")):
            wanted = {
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "content-type,x-api-key",
            }
            preflight = client.options("/predict", headers={"Origin": origin, **wanted})
            assert preflight.status_code == (200 if allowed else 400)
            for response in (
                ask(client, "POST", "/predict", Origin=origin, **KEY),
                ask(client, "POST", "/predict", Origin=origin),
                ask(client, "GET", "/norm-stats", Origin=origin),
            ):
                found = response.headers.get("access-control-allow-origin")
                assert found == ((origin if origins != "*" else "*") if allowed else None)
                assert "access-control-allow-credentials" not in response.headers
            assert "X-Request-ID" in response.headers["access-control-expose-headers"]


def test_without_origins_no_page_of_another_may_ask(text_engine: Engine, text_artifact: Artifact):
    with TestClient(make_app(settings_for(text_artifact), ModelRegistry(text_engine))) as client:
        response = ask(client, "POST", "/predict", Origin="https://a.example")
        assert response.status_code == 200
        assert not [name for name in response.headers if name.startswith("access-control")]
