"""Requests that come while the queue is full are told so at once, each by its own name."""

from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from service.fastpath.cycle import Cached429
from service.inference.engine import Engine
from service.settings import Settings
from tests.conftest import settings_for
from tests.service.fastpath.connections import TEXT, Connect, play, request


@pytest.fixture
def settings(text_artifact: Any) -> Settings:
    return settings_for(text_artifact)


@pytest.mark.parametrize("target", [b"/predict", b"/predict?long=way"], ids=["unread", "read"])
def test_overload_is_told_with_when_to_come_back(settings: Settings, text_engine: Engine, target: bytes):
    queue = text_engine.batcher.queue

    async def scenario(connect: Connect, _: uvicorn.Server) -> None:
        client = await connect()
        queue.tokens = settings.max_queue_tokens
        for _ in range(3):
            status, headers, body = await client.ask(request(TEXT, target=target))
            assert (status, body["code"]) == (429, "overloaded")
            assert int(headers["retry-after"]) >= 1
        queue.tokens = 0
        assert (await client.ask(request(TEXT)))[0] == 200
        _, _, traffic = await client.ask(b"GET /traffic HTTP/1.1\r\nHost: x\r\n\r\n")
        assert traffic["total"]["requests"] == {"/predict": {"200": 1, "429": 3}}
        assert traffic["total"]["refusals"] == {"overloaded": 3}

    play(settings, text_engine, scenario)


def test_cached_429_is_written_once_a_moment_but_for_the_name(text_engine: Engine):
    cached_429, state, batcher = Cached429(), ServerState(), text_engine.batcher
    state.default_headers = [(b"server", b"x")]
    batcher.queue.tokens = 10
    first = cached_429.render(b"one", "/embed", batcher, 1.0, state)
    assert first.startswith(b"HTTP/1.1 429 Too Many Requests\r\nserver: x\r\n")
    assert b"10 tokens wait" in first.partition(b"\r\n\r\n")[2]
    batcher.queue.tokens = 20
    assert cached_429.render(b"two", "/embed", batcher, 1.0, state) == first.replace(b"one", b"two")
    assert b"20 tokens wait" in cached_429.render(b"three", "/embed", batcher, 1.001, state)
    assert b"rate_limit_error" in cached_429.render(b"four", "/v1/embeddings", batcher, 1.001, state)
