"""Inference in front of the framework's routes, and what is refused before the body is read."""

import asyncio
import json
from typing import Any

import pytest
from starlette.testclient import TestClient

from runtime.artifact import Artifact
from service.inference.engine import Engine
from service.inference.registry import ModelRegistry
from tests.apps import make_app
from tests.conftest import settings_for
from tests.service.api.v2.asking import FEATURES, INFER, ask, tensor, text
from tests.service.http.test_errors import assert_error


def test_defect_is_answered_and_the_next_request_too(
    client: TestClient, text_engine: Engine, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as patch:
        patch.setattr(text_engine.encoder, "run", lambda _: 1 / 0)
        assert_error(ask(client, INFER, text("hi")), 500, "internal_error", "log")
    assert ask(client, INFER, text("hi")).status_code == 200


def test_body_that_is_too_large_is_refused_early(client: TestClient, text_engine: Engine):
    large = json.dumps({"inputs": [text("a" * 20_000)]}).encode()
    for content in (large, iter([large[:10_000], large[10_000:]])):
        assert_error(client.post(INFER, content=content), 413, "body_too_large", "20000")
    assert text_engine.counts.failed == 0
    assert ask(client, INFER, text("hi")).status_code == 200


def test_announced_size_is_refused_before_a_byte_is_read(text_artifact: Artifact, text_engine: Engine):
    app = make_app(settings_for(text_artifact), ModelRegistry(text_engine))
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        raise AssertionError("nothing is to be read")

    for path, headers in ((INFER, [(b"content-length", b"30000")]), ("/v2/models/no/infer", [])):
        scope = {"type": "http", "method": "POST", "path": path, "headers": headers}
        asyncio.run(app(scope, receive, send))
    assert [message["status"] for message in sent if "status" in message] == [413, 404]


def test_models_are_looked_up_at_each_request(
    text_artifact: Artifact, text_engine: Engine, feature_engine: Engine, monkeypatch: pytest.MonkeyPatch
):
    models = ModelRegistry(text_engine)
    with TestClient(make_app(settings_for(text_artifact), models)) as client:
        features = tensor("features", [1, 1, 4], "FP32", data=[0, 0, 0, 0])
        assert_error(ask(client, FEATURES, features), 404, "unknown_model")
        monkeypatch.setattr(models, "find", ModelRegistry(text_engine, feature_engine).find)
        assert ask(client, FEATURES, features).json()["model_version"] == "7"
