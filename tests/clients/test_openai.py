"""OpenAI's client, as it is published, against a real server."""

import asyncio
import base64
from collections.abc import Iterator
from typing import Any

import numpy as np
import openai
import pytest

from service.inference.engine import Engine
from tests.live import Live


@pytest.fixture
def client(live: Live) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{live.url}/v1", api_key="unused", max_retries=0) as client:
        yield client


def reference(engine: Engine, *texts: str) -> np.ndarray:
    rows = engine.encoder.run([item.tokens for item in engine.inputs.encode(texts)]).embedding
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("more", [{}, {"encoding_format": "float"}, {"encoding_format": "base64"}], ids=str)
def test_embeddings_are_those_of_the_model_at_length_one(client: openai.OpenAI, live: Live, more: dict[str, Any]):
    answer = client.embeddings.create(model="texts", input=["hi", "will it rain"], user="me", **more)
    found = [one.embedding for one in answer.data]
    if more.get("encoding_format") == "base64":  # asked for by name, the client leaves it as it is
        found = [np.frombuffer(base64.b64decode(one), "<f4") for one in found]
    np.testing.assert_allclose(found, reference(live.models.find("texts"), "hi", "will it rain"), rtol=1e-4, atol=1e-6)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 1


def test_token_ids_are_embedded(client: openai.OpenAI, live: Live):
    ids = live.models.find("texts").inputs.encode(["will it rain"])[0].tokens.tolist()
    for given in (ids, [ids]):
        (one,) = client.embeddings.create(model="texts:1", input=given).data
        np.testing.assert_allclose(
            one.embedding, reference(live.models.find("texts"), "will it rain")[0], rtol=1e-4, atol=1e-6
        )


def test_models_are_listed(client: openai.OpenAI):
    assert [model.id for model in client.models.list()] == ["texts", "signals", "texts:1", "signals:7"]
    assert client.models.retrieve("signals").owned_by == "addnorm"
    with pytest.raises(openai.NotFoundError, match="'nope'"):
        client.models.retrieve("nope")


@pytest.mark.parametrize(
    ("body", "kind", "code"),
    [
        ({"model": "nope", "input": "hi"}, openai.NotFoundError, "unknown_model"),
        ({"model": "texts", "input": ""}, openai.BadRequestError, "empty_text"),
        ({"model": "texts", "input": "hi", "dimensions": 4}, openai.BadRequestError, "invalid_dimensions"),
        ({"model": "texts", "input": ["hi"] * 9}, openai.APIStatusError, "too_many_rows"),
    ],
    ids=str,
)
def test_errors_raise_the_right_exception(client: openai.OpenAI, body: dict[str, Any], kind: Any, code: str):
    with pytest.raises(kind) as error:
        client.embeddings.create(**body)
    assert error.value.code == code
    assert error.value.body["message"] in str(error.value)


def test_overload_is_a_rate_limit(client: openai.OpenAI, live: Live):
    queue = live.models.find("texts").batcher.queue
    queue.tokens += 10**9
    try:
        with pytest.raises(openai.RateLimitError) as error:
            client.embeddings.create(model="texts", input="hi")
    finally:
        queue.tokens -= 10**9
    assert int(error.value.response.headers["retry-after"]) >= 1


def test_async_client_asks_the_same(live: Live):
    async def main() -> None:
        async with openai.AsyncOpenAI(base_url=f"{live.url}/v1", api_key="unused", max_retries=0) as client:
            answers = await asyncio.gather(*(client.embeddings.create(model="texts", input="hi") for _ in range(8)))
            for answer in answers:
                np.testing.assert_allclose(
                    answer.data[0].embedding, reference(live.models.find("texts"), "hi")[0], rtol=1e-4, atol=1e-6
                )
            assert "texts" in [model.id async for model in client.models.list()]
            with pytest.raises(openai.BadRequestError):
                await client.embeddings.create(model="texts", input=[])

    asyncio.run(main())
