"""POST /predict says where the time went, and gives up what nobody waits for."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.inference.engine import Engine
from service.inference.registry import ModelRegistry
from service.settings import Settings
from tests.apps import make_app
from tests.conftest import settings_for

BODY = b'{"inputs": "what is my balance"}'


@pytest.fixture
def settings(text_artifact: Any) -> Settings:
    return settings_for(text_artifact)


def test_server_timing_says_where_the_time_went(client: TestClient):
    header = client.post("/predict", content=BODY).headers["server-timing"]
    parts = dict(re.fullmatch(r"(\w+);dur=(\d+\.\d{3})", part).groups() for part in header.split(", "))  # type: ignore[union-attr]
    assert list(parts) == ["parse", "tokenize", "queue", "infer", "serialize"]
    assert 0 < float(parts["infer"]) < 10_000


@pytest.mark.parametrize(("more", "kept"), [({}, "scores"), ({"input_log_texts": True}, "texts")])
def test_model_says_what_is_written_down(
    client: TestClient, settings: Settings, text_engine: Engine, tmp_path: Path, more: dict[str, bool], kept: str
):
    assert client.get("/model").json()["input_log"] == "none"
    logging = settings.model_copy(update={"input_log": tmp_path} | more)
    with TestClient(make_app(logging, ModelRegistry(text_engine))) as other:
        assert other.get("/model").json()["input_log"] == kept


def scope() -> dict[str, Any]:
    path = {"path": "/predict", "raw_path": b"/predict", "query_string": b"", "root_path": ""}
    return {"type": "http", "method": "POST", "headers": [], **path}


def test_request_of_a_client_that_left_is_dropped(
    settings: Settings, text_engine: Engine, monkeypatch: pytest.MonkeyPatch
):
    """Its rows do not run, nothing is sent, and the next one is answered."""
    monkeypatch.setattr("service.inference.request.WATCH_AFTER", 0.0)
    app, sent, left = make_app(settings, ModelRegistry(text_engine)), [], asyncio.Event()

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
        with monkeypatch.context() as patch:
            patch.setattr(text_engine.batcher.executor, "notify", lambda _: None)
            async with asyncio.timeout(10):
                await app(scope(), receiver(BODY, leaves=True), send)
        assert left.is_set() and not sent and not text_engine.batcher.queue.requests
        await app(scope(), receiver(BODY, leaves=False), send)
        await text_engine.close()

    asyncio.run(main())
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert json.loads(sent[1]["body"])["predictions"][0]["tokens"] > 0
