"""Heads that the parser lets pass and that are no requests, on the fast path and on the application's way."""

from typing import Any

import pytest
import uvicorn

from service.http.heads import HeadRefused, check_head, without_upgrade
from service.http.limits import HEAD_BYTES
from service.inference.engine import Engine
from service.settings import Settings
from tests.conftest import settings_for
from tests.service.fastpath.connections import TEXT, Connect, play, request

WAYS = [b"/predict", b"/predict?way=long"]
HOST = (b"host", b"x")
CHUNKED = (b"transfer-encoding", b"chunked")


@pytest.fixture
def settings(text_artifact: Any) -> Settings:
    return settings_for(text_artifact)


@pytest.mark.parametrize(
    ("headers", "version", "status"),
    [
        ([HOST], "1.1", None),
        ([(b"host", b"")], "1.1", None),
        ([], "1.0", None),
        ([], "1.1", 400),
        ([HOST, HOST], "1.1", 400),
        ([HOST, HOST], "1.0", 400),
        ([HOST, CHUNKED], "1.1", None),
        ([HOST, (b"transfer-encoding", b" Chunked ")], "1.1", None),
        ([HOST, (b"transfer-encoding", b"gzip, chunked")], "1.1", 400),
        ([HOST, (b"transfer-encoding", b"gzip"), CHUNKED], "1.1", 400),
        ([HOST, CHUNKED, CHUNKED], "1.1", 400),
        ([HOST, (b"x", b"y" * HEAD_BYTES)], "1.1", 431),
    ],
)
def test_head_names_one_host_and_no_coding_but_chunked(
    headers: list[tuple[bytes, bytes]], version: str, status: int | None
):
    if status is None:
        check_head(b"/predict", headers, version)
        return
    with pytest.raises(HeadRefused) as raised:
        check_head(b"/predict", headers, version)
    assert raised.value.rejection.status == status


def test_head_without_its_upgrade_is_otherwise_the_same():
    headers = [HOST, (b"connection", b"Upgrade, close"), (b"upgrade", b"h2c"), (b"http2-settings", b"AAMA")]
    expected = b"GET /a HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    assert without_upgrade("GET", b"/a", headers, "1.1") == expected


@pytest.mark.parametrize("target", WAYS)
@pytest.mark.parametrize("hosts", [b"", b"Host: x\r\nHost: x\r\n", b"Host: x\r\nhost: y\r\n"])
def test_request_without_a_host_or_with_several_is_refused(
    settings: Settings, text_engine: Engine, target: bytes, hosts: bytes
):
    content = request(TEXT, target=target)

    async def scenario(connect: Connect, _: uvicorn.Server) -> None:
        client = await connect()
        assert (await client.ask(content))[0] == 200
        status, headers, body = await client.ask(content.replace(b"Host: x\r\n", hosts) + content)
        assert (status, body["code"], headers["connection"]) == (400, "invalid_http", "close")
        assert "Host" in body["error"]
        assert await client.reader.read() == b""

    play(settings, text_engine, scenario)


@pytest.mark.parametrize("target", WAYS)
def test_body_whose_transfer_is_coded_is_refused(settings: Settings, text_engine: Engine, target: bytes):
    """Its chunks hold what a coding made of the body, which nothing here undoes."""
    head = b"POST %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n" % target
    content = head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(TEXT), TEXT)

    async def scenario(connect: Connect, _: uvicorn.Server) -> None:
        client = await connect()
        status, headers, body = await client.ask(content)
        assert (status, body["code"], headers["connection"]) == (400, "invalid_http", "close")
        assert "chunked" in body["error"]
        assert await client.reader.read() == b""

    play(settings, text_engine, scenario)
