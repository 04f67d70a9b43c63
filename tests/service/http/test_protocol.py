"""What the protocol refuses, bounds and closes, on the fast path (/predict) and on the application's way."""

import asyncio
import json
import socket
from typing import Any

import pytest
import uvicorn

import service.http.limits
import service.http.protocol
from service.inference.engine import Engine
from service.settings import Settings
from tests.conftest import settings_for
from tests.service.fastpath.connections import TEXT, Client, Connect, play, request

WAYS = [b"/predict", b"/predict?way=long"]
LIVE = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def settings(text_artifact: Any) -> Settings:
    return settings_for(text_artifact)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Settings:
    """Deadlines of a moment."""
    monkeypatch.setattr(service.http.limits, "TICK", 0.05)
    return settings.model_copy(update={"head_timeout": 0.3, "body_timeout": 0.3})


async def in_flight(connect: Connect) -> int:
    return int((await (await connect()).ask(b"GET /traffic HTTP/1.1\r\nHost: x\r\n\r\n"))[2]["now"]["in_flight"])


async def is_closed(client: Client) -> bool:
    return await client.reader.read() == b""


@pytest.mark.parametrize("upgrade", [b"h2c", b"websocket", b"anything"])
@pytest.mark.parametrize("target", WAYS)
@pytest.mark.parametrize("apart", [False, True])
def test_body_of_a_request_to_upgrade_is_its_own(
    settings: Settings, text_engine: Engine, target: bytes, upgrade: bytes, apart: bool
):
    """Taken for a request, it would be answered to whoever comes next on the proxy's connection."""
    inner = request(json.dumps({"inputs": "smuggled"}).encode()) + LIVE
    headers = (b"Connection: keep-alive, Upgrade, HTTP2-Settings", b"Upgrade: " + upgrade, b"HTTP2-Settings: AAMAAABk")

    async def scenario(connect: Connect, _: uvicorn.Server) -> None:
        client = await connect()
        for body, status in ((inner, 400), (TEXT, 200), (b"", 400)):
            content = request(body, *headers, target=target)
            client.writer.write(content[: -len(body)] if apart and body else content)
            await asyncio.sleep(0.02)
            if apart:
                client.writer.write(body)
            assert (await client.answer())[0] == status
        assert (await client.ask(LIVE))[2] == {"status": "live"}
        many = request(TEXT, *headers, target=target) * 200
        client.writer.write(many)
        assert [(await client.answer())[0] for _ in range(200)] == [200] * 200
        assert await in_flight(connect) == 1

    play(settings, text_engine, scenario)


def test_connect_is_refused(settings: Settings, text_engine: Engine):
    async def scenario(connect: Connect, _: uvicorn.Server) -> None:
        client = await connect()
        status, headers, body = await client.ask(b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n" + LIVE)
        assert (status, body["code"], headers["connection"]) == (405, "method_not_allowed", "close")
        assert await is_closed(client)

    play(settings, text_engine, scenario)


@pytest.mark.parametrize("target", WAYS)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_requests_before_bytes_that_are_not_http_are_answered(
    settings: Settings, text_engine: Engine, caplog: pytest.LogCaptureFixture, target: bytes, count: int
):
    async def scenario(connect: Connect, _: uvicorn.Server) -> None:
        client = await connect()
        client.writer.write(request(TEXT, target=target) * count + b"\0 no HTTP\r\n\r\n" + LIVE)
        assert [(await client.answer())[0] for _ in range(count)] == [200] * count
        status, headers, body = await client.answer()
        assert (status, body["code"], headers["connection"]) == (400, "invalid_http", "close")
        assert await is_closed(client)
        assert await in_flight(connect) == 1

    play(settings, text_engine, scenario)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("target", WAYS)
@pytest.mark.parametrize("count", [1, 2, 5])
def test_client_that_pipelines_and_leaves_is_neither_a_defect_nor_in_flight(
    settings: Settings, text_engine: Engine, caplog: pytest.LogCaptureFixture, target: bytes, count: int
):
    async def scenario(connect: Connect, _: uvicorn.Server) -> None:
        for _ in range(5):
            client = await connect()
            sock = client.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # its end is a reset
            client.writer.write(request(TEXT, target=target) * count)
            await asyncio.sleep(0.002)
            client.writer.transport.abort()
        await asyncio.sleep(0.1)
        _, _, traffic = await (await connect()).ask(b"GET /traffic HTTP/1.1\r\nHost: x\r\n\r\n")
        assert traffic["now"]["in_flight"] == 1 and "defect" not in traffic["total"]["refusals"]

    play(settings, text_engine, scenario)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("target", WAYS)
def test_body_that_breaks_off_into_garbage_is_refused(settings: Settings, text_engine: Engine, target: bytes):
    head = b"POST %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" % target

    async def scenario(connect: Connect, _: uvicorn.Server) -> None:
        for before in (0, 1, 2):
            client = await connect()
            client.writer.write(request(TEXT, target=target) * before + head + b"5\r\nabcde\r\nno number\r\n")
            assert [(await client.answer())[0] for _ in range(before)] == [200] * before
            assert (await client.answer())[0] == 400
            assert await is_closed(client)
        assert await in_flight(connect) == 1

    play(settings, text_engine, scenario)


@pytest.mark.parametrize("target", WAYS)
@pytest.mark.parametrize("lines", [True, False])
def test_head_is_bounded(settings: Settings, text_engine: Engine, target: bytes, lines: bool):
    part = b"X-Y: " + b"z" * 995 + b"\r\n" if lines else b"z" * 1000

    async def scenario(connect: Connect, _: uvicorn.Server) -> None:
        client = await connect()
        assert (await client.ask(request(TEXT, b"X: " + b"y" * 60_000, target=target)))[0] == 200
        client.writer.write(b"POST %s HTTP/1.1\r\nX: " % target + b"y\r\n" * lines)
        for _ in range(64):
            client.writer.write(part)
            await asyncio.sleep(0)
        sent = 64_000
        while not client.reader._buffer:  # type: ignore[attr-defined]  # until it is answered
            client.writer.write(part)
            await asyncio.sleep(0.001)
            sent += len(part)
            assert sent < 1_000_000
        status, headers, body = await client.answer()
        assert (status, body["code"], headers["connection"]) == (431, "head_too_large", "close")
        client = await connect()
        whole = b"".join(b"X-%d: %s\r\n" % (n, b"z" * 1000) for n in range(70))
        assert (await client.ask(LIVE[:-2] + whole + b"\r\n"))[0] == 431, "in one piece"

    play(settings, text_engine, scenario)


@pytest.mark.parametrize("target", WAYS)
def test_what_surrounds_chunks_is_bounded(settings: Settings, text_engine: Engine, target: bytes):
    """The names of chunks and what follows the last one, which the parser keeps."""
    head = b"POST %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" % target

    async def scenario(connect: Connect, _: uvicorn.Server) -> None:
        for beginning in (b"5;", b"5\r\nabcde\r\n0\r\nX: "):
            client = await connect()
            client.writer.write(head + beginning)
            for _ in range(100):
                client.writer.write(b"z" * 1000)
                await asyncio.sleep(0.001)
            assert (await client.answer())[0] == 431
        body = request(TEXT).split(b"\r\n\r\n")[1]
        chunks = b"%x\r\n%s\r\n0\r\nX-Request-ID: late\r\n\r\n" % (len(body), body)
        status, headers, _ = await (await connect()).ask(head + chunks)
        assert status == 200 and headers["x-request-id"] != "late"

    play(settings, text_engine, scenario)


@pytest.mark.parametrize("beginning", [b"", b"POST /predict HTTP/1.1\r\nHost: x\r\n", LIVE + b"GET "])
def test_silence_and_half_a_head_end_in_time(short: Settings, text_engine: Engine, beginning: bytes):
    async def scenario(connect: Connect, _: uvicorn.Server) -> None:
        client, loop = await connect(), asyncio.get_running_loop()
        started = loop.time()
        client.writer.write(beginning)
        if beginning.startswith(LIVE):
            assert (await client.answer())[0] == 200
        if beginning:
            status, headers, body = await client.answer()
            assert (status, body["code"], headers["connection"]) == (408, "request_timeout", "close")
        assert await is_closed(client)
        assert 0.29 < loop.time() - started < 5

    play(short, text_engine, scenario)


@pytest.mark.parametrize("target", WAYS)
def test_body_that_drips_ends_in_time(short: Settings, text_engine: Engine, target: bytes):
    async def scenario(connect: Connect, _: uvicorn.Server) -> None:
        client, content = await connect(), request(b" " * 200 + TEXT, target=target)
        client.writer.write(content[:100])
        for byte in content[100:200]:
            if client.reader._buffer:  # type: ignore[attr-defined]
                break
            client.writer.write(bytes([byte]))
            await asyncio.sleep(0.02)
        assert (await client.answer())[0] == 408
        assert await is_closed(client)
        assert await in_flight(connect) == 1

    play(short, text_engine, scenario)


def test_answer_that_takes_long_is_waited_for(short: Settings, text_engine: Engine, monkeypatch: pytest.MonkeyPatch):
    notify = text_engine.batcher.executor.notify

    async def scenario(connect: Connect, _: uvicorn.Server) -> None:
        for target in WAYS:
            with monkeypatch.context() as patch:
                patch.setattr(text_engine.batcher.executor, "notify", lambda _: None)
                client = await connect()
                client.writer.write(request(TEXT, target=target))
                await asyncio.sleep(0.8)
            notify(text_engine.batcher)
            assert (await client.answer())[0] == 200

    play(short, text_engine, scenario)


@pytest.mark.parametrize("target", WAYS)
def test_request_that_comes_while_the_service_stops_is_answered(settings: Settings, text_engine: Engine, target: bytes):
    async def scenario(connect: Connect, server: uvicorn.Server) -> None:
        clients = [await connect() for _ in range(3)]
        for client in clients[1:]:
            assert (await client.ask(request(TEXT, target=target)))[0] == 200
        server.should_exit = True
        await asyncio.sleep(0.25)
        for client in clients[:2]:
            status, headers, _ = await client.ask(request(TEXT, target=target))
            assert (status, headers["connection"]) == (200, "close")
            assert await is_closed(client)
        assert await is_closed(clients[2])

    play(settings, text_engine, scenario)
