"""The fast route answers exactly as the framework's does, and gives up what nobody waits for."""

import asyncio
import json
import re
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.app import create_app, create_front
from service.engine import Engine
from service.models import Models
from service.settings import Settings
from tests.conftest import settings_for

BODIES = [
    b'{"inputs": "what is my balance"}',
    b'{"inputs": ["hi", "will it rain"], "top_k": 3, "norm_stats": true}',
    b'{"inputs": ["hi", ""]}',
    b'{"inputs": ["hi"], "top_k": 0}',
    b'{"inputs": ["hi"], "timeout": 0}',
    b'{"inputs": ',
    b'{"inputs": "' + b"a" * 20_000 + b'"}',
    b'{"inputs": ["hi", "hi", "hi", "hi", "hi", "hi", "hi", "hi", "hi"]}',
]


@pytest.fixture
def settings(text_artifact: Any) -> Settings:
    return settings_for(text_artifact)


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body[:40].decode())
def test_both_routes_give_the_same_answer(settings: Settings, text_engine: Engine, body: bytes):
    with (
        TestClient(create_front(settings, Models(text_engine))) as front,
        TestClient(create_app(settings, Models(text_engine))) as framework,
    ):
        fast, slow = front.post("/predict", content=body), framework.post("/predict", content=body)
    assert (fast.status_code, fast.json()) == (slow.status_code, slow.json())
    assert fast.headers["content-type"] == slow.headers["content-type"] == "application/json"
    assert ("server-timing" in fast.headers) == ("server-timing" in slow.headers) == (fast.status_code == 200)


def test_front_hands_on_what_is_no_prediction(settings: Settings, text_engine: Engine):
    with TestClient(create_front(settings, Models(text_engine))) as client:
        assert client.get("/norm-stats").json()["model"] == "texts"
        assert client.get("/predict").status_code == 405
        assert client.post("/predict/", content=BODIES[0], follow_redirects=False).status_code in (307, 404)


def test_server_timing_says_where_the_time_went(client: TestClient):
    header = client.post("/predict", content=BODIES[0]).headers["server-timing"]
    parts = dict(re.fullmatch(r"(\w+);dur=(\d+\.\d{3})", part).groups() for part in header.split(", "))  # type: ignore[union-attr]
    assert list(parts) == ["parse", "tokenize", "queue", "infer", "serialize"]
    assert 0 < float(parts["infer"]) < 10_000


def test_deadline_of_a_request_is_kept(settings: Settings):
    engine = Engine(settings)
    with TestClient(create_front(settings, Models(engine))) as client:
        response = client.post("/predict", json={"inputs": "hi", "timeout": 1e-9})
    assert (response.status_code, response.json()["code"]) == (504, "deadline_exceeded")


def test_overload_is_told_with_when_to_come_back(text_artifact: Any):
    settings = settings_for(text_artifact).model_copy(update={"max_queue_tokens": 1})
    with TestClient(create_front(settings, Models(Engine(settings)))) as client:
        engine: Engine = client.app.models.default  # type: ignore[attr-defined]
        engine.batcher.backlog.tokens = 5
        response = client.post("/predict", json={"inputs": "hi"})
        engine.batcher.backlog.tokens = 0
    assert (response.status_code, response.json()["code"]) == (429, "overloaded")
    assert int(response.headers["retry-after"]) >= 1


def scope() -> dict[str, Any]:
    return {"type": "http", "method": "POST", "path": "/predict", "headers": []}


def test_request_of_a_client_that_left_is_dropped(
    settings: Settings, text_engine: Engine, monkeypatch: pytest.MonkeyPatch
):
    """Its rows do not run, nothing is sent, and the next one is answered."""
    monkeypatch.setattr("service.answering.WATCH_AFTER", 0.0)
    front, sent, left = create_front(settings, Models(text_engine)), [], asyncio.Event()

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    def receiver(body: bytes, leaves: bool) -> Any:
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            if messages:
                return messages.pop()
            if not leaves:
                await asyncio.sleep(60)
            left.set()
            return {"type": "http.disconnect"}

        return receive

    async def main() -> None:
        never: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        with monkeypatch.context() as patch:
            patch.setattr(text_engine.batcher, "submit", lambda *_: never)
            async with asyncio.timeout(10):
                await front(scope(), receiver(BODIES[0], leaves=True), send)
        assert left.is_set() and never.cancelled() and not sent
        await front(scope(), receiver(BODIES[0], leaves=False), send)
        await text_engine.close()

    asyncio.run(main())
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert json.loads(sent[1]["body"])["predictions"][0]["tokens"] > 0
