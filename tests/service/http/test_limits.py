"""What is answered to what is no whole request has the form of the path that it was sent to."""

import json
from typing import Any

import pytest
import uvicorn

import service.http.limits
from service.http.limits import SLOW_BODY
from service.inference.engine import Engine
from tests.conftest import settings_for
from tests.service.fastpath.connections import Connect, play

LIVE = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"


def body_of(url: bytes) -> Any:
    return json.loads(SLOW_BODY.of(url).render([]).partition(b"\r\n\r\n")[2])


def test_form_is_that_of_the_path():
    assert body_of(b"/predict") == {"error": SLOW_BODY.message, "code": "request_timeout"}
    expected = {"message": SLOW_BODY.message, "type": "invalid_request_error", "param": None, "code": "request_timeout"}
    assert body_of(b"/v1/embeddings") == {"error": expected}


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{", 408),
        (b"POST /v1/embeddings?x HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{", 408),
        (b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\n", 408),
        (b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST /v1/embeddings HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 400),
    ],
)
def test_openais_clients_can_read_why(
    text_artifact: Any, text_engine: Engine, monkeypatch: pytest.MonkeyPatch, sent: bytes, status: int
):
    monkeypatch.setattr(service.http.limits, "TICK", 0.05)
    short = settings_for(text_artifact).model_copy(update={"head_timeout": 0.3, "body_timeout": 0.3})

    async def scenario(connect: Connect, _: uvicorn.Server) -> None:
        found, _, body = await (await connect()).ask(sent)
        assert found == status
        assert body["error"].keys() == {"message", "type", "param", "code"}
        after = await connect()
        assert (await after.ask(LIVE))[0] == 200
        after.writer.write(b"\0 no HTTP\r\n\r\n")  # of no path, whatever was asked before
        assert (await after.answer())[2].keys() == {"error", "code"}

    play(short, text_engine, scenario)
