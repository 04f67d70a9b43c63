"""Who still sends can read the answer; who does not read holds up no stop."""

import asyncio
import socket
from typing import Any

import pytest
import uvicorn

import service.http.limits
import service.http.protocol
from service.inference.engine import Engine
from service.settings import Settings
from tests.conftest import settings_for
from tests.service.fastpath.connections import TEXT, Connect, play, request

WAYS = [b"/predict", b"/predict?way=long"]
LIVE = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
LARGE = b"x" * 10_000_000


@pytest.fixture
def settings(text_artifact: Any) -> Settings:
    return settings_for(text_artifact)


def chunked(target: bytes) -> bytes:
    head = b"POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n" % target
    return head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(LARGE), LARGE)


def announced(target: bytes) -> bytes:
    return request(LARGE, b"Connection: close", target=target)


@pytest.mark.parametrize(
    ("content", "status"),
    [
        *((send(target), 413) for send in (announced, chunked) for target in WAYS),
        (announced(b"/norm-stats/baseline"), 401),
    ],
    ids=["announced", "announced, long", "chunked", "chunked, long", "no key"],
)
def test_client_that_sends_all_before_it_reads_can_read_the_answer(
    settings: Settings, text_engine: Engine, caplog: pytest.LogCaptureFixture, content: bytes, status: int
):
    """It asks for the end of the connection, as Python's urllib does: bytes left unread would reset it."""

    async def scenario(connect: Connect, _: uvicorn.Server) -> None:
        client = await connect()
        client.writer.write(content + LIVE)
        await client.writer.drain()
        answer = await client.answer()
        assert (answer[0], answer[1]["connection"]) == (status, "close")
        assert await client.reader.read() == b"", "what follows is not answered"

    play(settings.model_copy(update={"api_keys": "key", "api_key_for": "reads"}), text_engine, scenario)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("target", WAYS)
@pytest.mark.parametrize("rest", [b"\0 no number\r\n", b"0\r\n\r\n\0 no HTTP\r\n\r\n", b"0\r\n\r\n" + LIVE])
def test_one_answer_is_given_whatever_follows(settings: Settings, text_engine: Engine, target: bytes, rest: bytes):
    body = b"x" * (settings.max_body_bytes + 1)
    content = chunked(target).partition(b"\r\n\r\n")[0] + b"\r\n\r\n%x\r\n%s\r\n" % (len(body), body)

    async def scenario(connect: Connect, _: uvicorn.Server) -> None:
        client = await connect()
        status, headers, _ = await client.ask(content + rest)
        assert status == 413 or (status == 400 and rest.startswith(b"\0"))  # whichever was met first
        assert headers["connection"] == "close" and await client.reader.read() == b""

    play(settings, text_engine, scenario)


@pytest.mark.parametrize("target", WAYS)
def test_client_that_never_ends_its_body_is_left(
    settings: Settings, text_engine: Engine, monkeypatch: pytest.MonkeyPatch, target: bytes
):
    monkeypatch.setattr(service.http.limits, "TICK", 0.05)
    monkeypatch.setattr(service.http.protocol, "LINGER", 0.2)

    async def scenario(connect: Connect, server: uvicorn.Server) -> None:
        client = await connect()
        assert (await client.ask(announced(target)[:100_000]))[0] == 413
        assert await client.reader.read() == b""
        async with asyncio.timeout(5):
            while server.server_state.connections:
                await asyncio.sleep(0.01)

    play(settings, text_engine, scenario)


def test_client_that_does_not_read_is_left_before_the_stop_would_cancel_its_task(
    settings: Settings, text_engine: Engine, caplog: pytest.LogCaptureFixture
):
    """Which uvicorn would log as a defect, with a stack."""

    async def scenario(connect: Connect, server: uvicorn.Server) -> None:
        server.config.timeout_graceful_shutdown = 1
        client = await connect()
        client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.writer.write(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
        while not server.server_state.connections:
            await asyncio.sleep(0.01)
        (connection,) = server.server_state.connections
        while not connection.flow.write_paused:  # type: ignore[union-attr]
            await asyncio.sleep(0.01)
        reader = await connect()
        assert (await reader.ask(request(TEXT)))[0] == 200
        server.should_exit = True
        async with asyncio.timeout(5):
            while server.server_state.connections:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)

    play(settings, text_engine, scenario)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
