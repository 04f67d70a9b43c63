import asyncio
import gzip
from collections.abc import Iterator
from typing import Any

import pytest
from httpx2 import Response
from starlette.testclient import TestClient

from service.inference.engine import Engine

LIMIT = 20_000  # that of the fixtures' settings


def assert_too_large(response: Response) -> None:
    assert response.status_code == 413
    assert response.json().keys() == {"error", "code"}
    assert response.json()["code"] == "body_too_large"
    assert str(LIMIT) in response.json()["error"]


def body_of(size: int) -> bytes:
    return b'{"inputs": "%s"}' % (b"a" * (size - len(b'{"inputs": ""}')))


def in_chunks(content: bytes) -> Iterator[bytes]:
    for start in range(0, len(content), 1000):
        yield content[start : start + 1000]


def test_announced_body_that_is_too_large_is_refused(client: TestClient):
    assert_too_large(client.post("/predict", content=body_of(LIMIT + 1)))


def test_client_that_waits_before_it_sends_too_much_sends_nothing(client: TestClient):
    """Its next request would begin where the service awaits the body."""
    response = client.post("/predict", content=body_of(LIMIT + 1), headers={"Expect": "100-continue"})
    assert_too_large(response)
    assert response.headers["Connection"] == "close"


def test_chunked_body_that_is_too_large_is_refused(client: TestClient):
    response = client.post("/predict", content=in_chunks(body_of(LIMIT + 1)))
    assert "content-length" not in response.request.headers
    assert_too_large(response)


def test_body_that_announces_less_than_it_has_is_refused(client: TestClient):
    assert_too_large(client.post("/predict", content=body_of(LIMIT + 1), headers={"Content-Length": "10"}))


@pytest.mark.parametrize("chunked", [True, False])
def test_body_of_exactly_the_limit_is_answered(client: TestClient, chunked: bool):
    content = body_of(LIMIT)
    response = client.post("/predict", content=in_chunks(content) if chunked else content)
    assert response.status_code == 200
    assert response.json()["predictions"][0]["truncated"]


def test_client_that_leaves_while_it_sends_is_no_defect(client: TestClient, caplog: pytest.LogCaptureFixture):
    messages = [{"type": "http.request", "body": b'{"inputs"', "more_body": True}, {"type": "http.disconnect"}]
    sent = []

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/predict", "headers": [], "query_string": b""}
    asyncio.run(client.app(scope, receive, send))
    assert sent == []
    assert "defect" not in caplog.text


def test_refused_body_never_reaches_the_model(client: TestClient, text_engine: Engine):
    client.post("/predict", content=in_chunks(body_of(10 * LIMIT)))
    assert text_engine.collector.recorder.state().requests == 0
    assert client.post("/predict", json={"inputs": "hi"}).status_code == 200


@pytest.mark.parametrize(
    "path", ["/predict", "/embed", "/rerank", "/tokenize", "/v1/embeddings", "/v2/repository/index"]
)
@pytest.mark.parametrize("encoding", ["gzip", "br", "GZIP", "identity, gzip"])
def test_encoded_body_is_refused_where_nothing_decodes_it(client: TestClient, path: str, encoding: str):
    content = gzip.compress(body_of(100)) if encoding == "gzip" else body_of(100)
    response = client.post(path, content=content, headers={"Content-Encoding": encoding})
    error = response.json()["error"] if path.startswith("/v1/") else response.json()
    assert (response.status_code, error["code"]) == (501, "unsupported")
    assert encoding in str(error)


def test_body_that_says_it_is_not_encoded_is_answered(client: TestClient):
    for encoding in ("identity", "Identity", ""):
        response = client.post("/predict", content=body_of(100), headers={"Content-Encoding": encoding})
        assert response.status_code == 200


def test_body_below_v2_may_be_encoded(client: TestClient, text_engine: Engine):
    content = gzip.compress(b'{"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["hi"]}]}')
    path = f"/v2/models/{text_engine.manifest.name}/infer"
    assert client.post(path, content=content, headers={"Content-Encoding": "gzip"}).status_code == 200
    assert client.post(path, content=content, headers={"Content-Encoding": "br"}).status_code == 501
