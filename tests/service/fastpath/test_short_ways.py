"""Every path that has a short way answers there exactly as the application does."""

from typing import Any

import pytest
import uvicorn

from service.inference.engine import Engine
from tests.conftest import settings_for
from tests.service.fastpath.connections import TEXT, Connect, play, request, unmeasured

OTHERS = {
    b"/embed": [
        TEXT,
        b'{"inputs": ["hi", "rain"], "normalize": false}',
        b'{"inputs": ["hi", ""]}',
        b'{"inputs": "hi", "x": 1}',
    ],
    b"/v1/embeddings": [
        b'{"model": "text", "input": "hi"}',
        b'{"model": "text", "input": ["hi", ""]}',
        b'{"model": "other", "input": "hi"}',
        b"{",
    ],
    b"/similarity": [
        b'{"source_sentence": "hi", "sentences": ["rain", "hi"]}',
        b'{"source_sentence": "hi", "sentences": [""]}',
    ],
    b"/rerank": [b'{"query": "hi", "documents": ["rain"]}'],
}


@pytest.mark.parametrize("target", OTHERS)
def test_both_ways_give_the_same_answer_of_any_model(text_artifact: Any, text_engine: Engine, target: bytes):
    async def scenario(connect: Connect, _: uvicorn.Server) -> None:
        client, found = await connect(), []
        for body in OTHERS[target]:
            long = await client.ask(request(body, target=target + b"?long=way"))
            for short in [await client.ask(request(body, target=target)) for _ in range(2)]:
                assert unmeasured(short) == unmeasured(long), body
                assert ("server-timing" in short[1]) == (short[0] == 200)
            found.append(long[0])
        _, _, traffic = await client.ask(b"GET /traffic HTTP/1.1\r\nHost: x\r\n\r\n")
        counted = {str(status): 3 * found.count(status) for status in found}
        assert traffic["total"]["requests"] == {target.decode(): counted}
        assert traffic["total"]["predictions"] == counted.get("200", 0)

    play(settings_for(text_artifact), text_engine, scenario)
