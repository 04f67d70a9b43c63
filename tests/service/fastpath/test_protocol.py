"""The short way from the socket answers exactly as the application does, and hands on what is not plain."""

import asyncio
import json
from typing import Any

import pytest
import uvicorn

from service.http.protocol import BoundedProtocol
from service.inference.engine import Engine
from service.inference.registry import ModelRegistry
from service.settings import Settings
from tests.conftest import settings_for
from tests.service.fastpath.connections import TEXT, Connect, play, request, serving, unmeasured

BODIES = [
    TEXT,
    b'{"inputs": ["hi", "will it rain"], "top_k": 3, "norm_stats": true}',
    b'{"inputs": ["hi", ""]}',
    b'{"inputs": ["hi"], "top_k": 0}',
    b'{"inputs": ["hi"], "timeout": 1e-9}',
    b'{"inputs": ',
    b"",
    b'{"inputs": ["hi", "hi", "hi", "hi", "hi", "hi", "hi", "hi", "hi"]}',
]


@pytest.fixture
def settings(text_artifact: Any) -> Settings:
    return settings_for(text_artifact)


def test_both_ways_give_the_same_answer(settings: Settings, text_engine: Engine):
    async def scenario(connect: Connect, _: uvicorn.Server) -> None:
        client = await connect()
        for body in BODIES:
            for headers in ((), (b"Connection: keep-alive", b"X-Any: thing")):
                long = await client.ask(request(body, *headers, target=b"/predict?long=way"))
                for short in [await client.ask(request(body, *headers)) for _ in range(2)]:
                    assert unmeasured(short) == unmeasured(long), body
                    assert ("server-timing" in short[1]) == (short[0] == 200)

    play(settings, text_engine, scenario)


def test_head_that_was_parsed_once_is_not_parsed_again(
    settings: Settings, text_engine: Engine, monkeypatch: pytest.MonkeyPatch
):
    """On any connection, whatever the body."""

    async def scenario(connect: Connect, _: uvicorn.Server) -> None:
        first = await (await connect()).ask(request(TEXT))
        monkeypatch.setattr(BoundedProtocol, "read", None)  # would fail
        client = await connect()
        for _ in range(3):
            assert unmeasured(await client.ask(request(TEXT))) == unmeasured(first)
        status, _, body = await client.ask(request(TEXT.replace(b"inputs", b"output")))
        assert (status, body["code"]) == (400, "invalid_request")
        assert (await client.ask(request(TEXT)))[0] == 200
        monkeypatch.undo()
        pair = request(TEXT) + request(TEXT)
        client.writer.write(pair + pair[:40])
        await asyncio.sleep(0.01)
        client.writer.write(pair[40:])
        assert [(await client.answer())[0] for _ in range(4)] == [200] * 4

    play(settings, text_engine, scenario)


def test_connection_is_closed_once_it_was_idle_for_so_long(settings: Settings, text_engine: Engine):
    """Each answer puts it off, though none sets the timer anew."""

    async def scenario(connect: Connect, server: uvicorn.Server) -> None:
        server.config.timeout_keep_alive = 0.2  # type: ignore[assignment]
        client, loop = await connect(), asyncio.get_running_loop()
        for _ in range(3):
            assert (await client.ask(request(TEXT)))[0] == 200
            answered = loop.time()
            await asyncio.sleep(0.12)
        assert await client.reader.read() == b""
        assert loop.time() - answered > 0.19

    play(settings, text_engine, scenario)


def test_what_is_not_plain_goes_the_long_way(settings: Settings, text_engine: Engine):
    asked = [
        (request(TEXT, b"Origin: http://elsewhere"), 200),
        (request(TEXT, b"Content-Encoding: identity"), 200),
        (request(TEXT, b"Content-Encoding: br"), 501),
        (request(TEXT, target=b"/predict/"), 307),
        (b"GET /predict HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        (request(TEXT, version=b"1.0"), 200),
    ]

    async def scenario(connect: Connect, _: uvicorn.Server) -> None:
        for content, status in asked:
            client = await connect()
            client.writer.write(content)
            assert int((await client.reader.readuntil(b"\r\n")).split()[1]) == status, content

    play(settings, text_engine, scenario)


def test_requests_in_one_segment_are_answered_in_order(settings: Settings, text_engine: Engine):
    async def scenario(connect: Connect, _: uvicorn.Server) -> None:
        client = await connect()
        counts = [1, 3, 2, 5]
        client.writer.write(b"".join(request(json.dumps({"inputs": ["hi"] * count}).encode()) for count in counts))
        assert [len((await client.answer())[2]["predictions"]) for _ in counts] == counts

    play(settings, text_engine, scenario)


def test_body_may_come_in_pieces_and_in_chunks(settings: Settings, text_engine: Engine):
    async def scenario(connect: Connect, _: uvicorn.Server) -> None:
        client, content = await connect(), request(TEXT)
        for at in range(0, len(content), 7):
            client.writer.write(content[at : at + 7])
            await asyncio.sleep(0)
        assert (await client.answer())[0] == 200
        head = b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (TEXT[:9], TEXT[9:]))
        assert (await client.ask(head + chunks + b"0\r\n\r\n"))[0] == 200

    play(settings, text_engine, scenario)


@pytest.mark.parametrize("chunked", [False, True])
def test_too_large_a_body_is_refused_and_the_next_request_answered(
    settings: Settings, text_engine: Engine, chunked: bool
):
    """The client can send all of it before it reads: a connection that was closed would take the answer with it."""
    body = b"x" * (100 * settings.max_body_bytes)
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    content = head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if chunked else request(body)

    async def scenario(connect: Connect, _: uvicorn.Server) -> None:
        client = await connect()
        client.writer.write(content)
        await client.writer.drain()
        status, _, found = await client.answer()
        assert (status, found["code"]) == (413, "body_too_large")
        assert (await client.ask(request(TEXT)))[0] == 200

    play(settings, text_engine, scenario)


def test_connection_is_closed_where_the_client_asks_for_it(settings: Settings, text_engine: Engine):
    async def scenario(connect: Connect, _: uvicorn.Server) -> None:
        client = await connect()
        status, headers, _ = await client.ask(request(TEXT, b"Connection: close"))
        assert (status, headers["connection"]) == (200, "close")
        assert await client.reader.read() == b""

    play(settings, text_engine, scenario)


def test_request_of_a_client_that_left_is_dropped(
    settings: Settings, text_engine: Engine, monkeypatch: pytest.MonkeyPatch
):
    """Its rows do not run, and the next client is answered."""
    batcher = text_engine.batcher

    async def scenario(connect: Connect, _: uvicorn.Server) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(batcher.executor, "notify", lambda _: None)
            client = await connect()
            client.writer.write(request(TEXT))
            while not batcher.queue.requests:
                await asyncio.sleep(0.001)
            client.writer.close()
            while batcher.queue.requests:
                await asyncio.sleep(0.001)
        client = await connect()
        _, _, traffic = await client.ask(b"GET /traffic HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (traffic["total"]["refusals"], traffic["total"]["rows"]) == ({"abandoned": 1}, 0)
        assert text_engine.counts.failed == 1
        assert (await client.ask(request(TEXT)))[0] == 200

    play(settings, text_engine, scenario)


def test_full_model_that_is_not_the_default_refuses_nobody_else(settings: Settings, text_engine: Engine):
    """The default model is unloaded, and the only other one is full: requests without a name are told so."""
    models = ModelRegistry(text_engine, default_name="another")

    async def main() -> None:
        async with serving(settings, models) as (connect, _):
            client = await connect()
            for full in (False, True, True):
                text_engine.batcher.queue.tokens = settings.max_queue_tokens * full
                for _ in range(3):
                    status, _, body = await client.ask(request(TEXT))
                    assert (status, body["code"]) == (503, "unavailable")
            text_engine.batcher.queue.tokens = 0

    asyncio.run(main())


def test_body_that_goes_on_after_its_answer_is_no_request(settings: Settings, text_engine: Engine):
    """Not even under an overload, where requests are refused unread: the next answer would be another request's."""
    inner = request(TEXT)

    async def scenario(connect: Connect, _: uvicorn.Server) -> None:
        client = await connect()
        head = b"POST /health/live HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(inner)
        assert (await client.ask(head))[0] == 405, "answered before its body came"
        text_engine.batcher.queue.tokens = settings.max_queue_tokens
        client.writer.write(inner)
        await asyncio.sleep(0.05)  # it is read by itself
        status, _, body = await client.ask(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        text_engine.batcher.queue.tokens = 0
        assert (status, body) == (200, {"status": "live"})

    play(settings, text_engine, scenario)


def test_accepted_requests_are_answered_when_the_service_stops(
    settings: Settings, text_engine: Engine, monkeypatch: pytest.MonkeyPatch
):
    batcher = text_engine.batcher

    async def scenario(connect: Connect, server: uvicorn.Server) -> None:
        client, wake = await connect(), batcher.executor.notify
        with monkeypatch.context() as patch:
            patch.setattr(batcher.executor, "notify", lambda _: None)
            client.writer.write(request(TEXT))
            while not batcher.queue.requests:
                await asyncio.sleep(0.001)
            server.should_exit = True
            await asyncio.sleep(0.15)  # uvicorn looks every 0.1 s
        wake(batcher)
        status, headers, _ = await client.answer()
        assert (status, headers["connection"]) == (200, "close")

    play(settings, text_engine, scenario)
