import base64
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from runtime.artifact import Artifact
from runtime.graph.batch import unit
from runtime.graph.encoder import Encoder
from service.inference.engine import Engine
from service.inference.registry import ModelRegistry
from tests.apps import make_app
from tests.conftest import settings_for
from tests.service.http.test_errors import assert_error


@pytest.fixture
def both(text_artifact: Artifact, text_engine: Engine, feature_engine: Engine) -> Iterator[TestClient]:
    """A service of both artifacts."""
    models = ModelRegistry(text_engine, feature_engine)
    with TestClient(make_app(settings_for(text_artifact), models), raise_server_exceptions=False) as client:
        yield client


def expected(engine: Engine, encoder: Encoder, *inputs: Any) -> np.ndarray:
    return encoder.run([item.tokens for item in engine.inputs.encode(inputs)]).embedding


def test_unit_rows_have_length_one_and_zeros_stay():
    rows = unit(np.array([[3, 4], [0, 0], [1e-30, 0], [3e38, 3e38]], dtype=np.float32))
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0, 0], [1, 0], [0.5**0.5] * 2], rtol=1e-6)


# POST /embed


def test_embed_answers_every_input(both: TestClient, text_engine: Engine, text_encoder: Encoder):
    body = both.post("/embed", json={"inputs": ["hi", "rain " * 50]}).json()
    assert (body["model"], body["version"]) == ("texts", "1")
    assert [(row["tokens"], row["truncated"]) for row in body["embeddings"]] == [(1, False), (12, True)]
    vectors = [row["embedding"] for row in body["embeddings"]]
    np.testing.assert_allclose(
        vectors, unit(expected(text_engine, text_encoder, "hi", "rain " * 50)), rtol=1e-4, atol=1e-6
    )


def test_embed_gives_what_the_graph_gave_where_asked_for(
    both: TestClient, feature_engine: Engine, feature_encoder: Any
):
    sequence = [[0.1, 0.2, 0.3, 0.4], [1, 2, 3, 4]]
    request = {"inputs": [sequence], "model": "signals", "version": "7", "normalize": False}
    (row,) = both.post("/embed", json=request).json()["embeddings"]
    np.testing.assert_allclose(
        row["embedding"], expected(feature_engine, feature_encoder, sequence)[0], rtol=1e-4, atol=1e-6
    )


def test_embed_runs_once_and_is_recorded(both: TestClient, text_engine: Engine):
    both.post("/embed", json={"inputs": ["hi", "snow"]})
    assert text_engine.collector.recorder.state().requests == 2
    assert (text_engine.counts.executions, text_engine.counts.rows) == (1, 2)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"inputs": ""}, 400, "empty_text"),
        ({"inputs": []}, 400, "no_inputs"),
        ({"inputs": ["hi"] * 9}, 413, "too_many_rows"),
        ({}, 400, "invalid_request"),
        ({"inputs": "hi", "normalize": "yes"}, 400, "invalid_request"),
        ({"inputs": "hi", "model": "nope"}, 404, "unknown_model"),
        ({"inputs": "hi", "version": "2"}, 404, "unknown_model"),
        ({"inputs": "hi", "version": 1}, 400, "invalid_request"),
        ({"inputs": [[[3e38] * 4]], "model": "signals"}, 400, "not_finite"),
    ],
    ids=str,
)
def test_embed_refuses_in_the_words_of_predict(both: TestClient, body: Any, status: int, code: str):
    assert_error(both.post("/embed", json=body), status, code)
    predict = {name: value for name, value in body.items() if name != "normalize"}
    if predict == body:
        assert both.post("/predict", json=body).json() == both.post("/embed", json=body).json()


def test_predict_answers_for_a_named_model(both: TestClient):
    named = both.post("/predict", json={"inputs": [[[1, 2, 3, 4]]], "model": "signals"}).json()
    assert (named["model"], named["version"]) == ("signals", "7")
    assert both.post("/predict", json={"inputs": "hi", "version": "1"}).json()["model"] == "texts"


# POST /v1/embeddings


def embeddings(client: TestClient, given: Any, **more: Any) -> Any:
    return client.post("/v1/embeddings", json={"input": given, "model": "texts"} | more)


def test_openai_embeddings_of_texts(both: TestClient, text_engine: Engine, text_encoder: Encoder):
    body = embeddings(both, ["hi", "will it rain"], user="me", dimensions=16).json()
    tokens = sum(len(item.tokens) for item in text_engine.inputs.encode(["hi", "will it rain"]))
    assert (body["object"], body["model"]) == ("list", "texts")
    assert body["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    assert [(row["object"], row["index"]) for row in body["data"]] == [("embedding", 0), ("embedding", 1)]
    np.testing.assert_allclose(
        [row["embedding"] for row in body["data"]],
        unit(expected(text_engine, text_encoder, "hi", "will it rain")),
        rtol=1e-4,
        atol=1e-6,
    )


def test_base64_holds_the_same_numbers(both: TestClient):
    (plain,) = embeddings(both, "hi").json()["data"]
    (packed,) = embeddings(both, "hi", encoding_format="base64", model="texts:1").json()["data"]
    assert np.frombuffer(base64.b64decode(packed["embedding"]), "<f4").tolist() == plain["embedding"]


def test_token_ids_are_those_of_the_tokenizer(both: TestClient, text_engine: Engine):
    first, second = (item.tokens.tolist() for item in text_engine.inputs.encode(["will it rain", "hi"]))
    by_text = [row["embedding"] for row in embeddings(both, ["will it rain", "hi"]).json()["data"]]
    by_ids = [row["embedding"] for row in embeddings(both, [first, second]).json()["data"]]
    np.testing.assert_allclose(by_ids, by_text, rtol=1e-5, atol=1e-7)
    (alone,) = embeddings(both, first).json()["data"]
    np.testing.assert_allclose(alone["embedding"], by_text[0], rtol=1e-5, atol=1e-6)


def assert_openai_error(response: Any, status: int, code: str, kind: str, *words: str) -> None:
    assert response.status_code == status, response.text
    body = response.json()
    assert body.keys() == {"error"} and body["error"].keys() == {"message", "type", "param", "code"}
    error = body["error"]
    assert (error["code"], error["type"]) == (code, kind)
    assert error["message"].endswith(".") and all(word in error["message"] for word in words), error["message"]


INVALID = "invalid_request_error"


@pytest.mark.parametrize(
    ("body", "status", "code", "words"),
    [
        ({"input": ""}, 400, "empty_text", ["input[0]"]),
        ({"input": []}, 400, "no_inputs", ["input is empty"]),
        ({"input": ["hi"] * 9}, 413, "too_many_rows", ["input has 9", "8"]),
        ({"input": None}, 400, "invalid_inputs", ["input is null"]),
        ({"input": ["hi", 5]}, 400, "invalid_text", ["input[1]"]),
        ({"input": [1, "hi"]}, 400, "invalid_inputs", ["input[0]", "token ids"]),
        ({"input": [[1], "hi"]}, 400, "invalid_inputs", ["input[1]", "a text"]),
        ({"input": [[1], []]}, 400, "empty_text", ["input[1]"]),
        ({"input": [[1, 2.5]]}, 400, "invalid_inputs", ["input[0]"]),
        ({"input": [[1, True]]}, 400, "invalid_inputs", ["input[0]"]),
        ({"input": [[1], [10**9]]}, 400, "unknown_token", ["input[1]", "1000000000"]),
        ({"input": [[10**30]]}, 400, "unknown_token", ["input[0]"]),
        ({"input": [[1] * 13]}, 400, "too_many_tokens", ["input[0]", "13", "12"]),
        ({"input": ["hi", "rain " * 50]}, 400, "too_many_tokens", ["input[1]", "12", "/embed"]),
        ({"input": "hi", "dimensions": 8}, 400, "invalid_dimensions", ["8", "16"]),
        ({"input": "hi", "encoding_format": "int8"}, 400, "invalid_request", ["encoding_format"]),
        ({"input": "hi", "surprise": 1}, 400, "invalid_request", ["surprise"]),
        ({"input": "hi", "model": "nope"}, 404, "unknown_model", ["'nope'", "texts"]),
        ({"input": "hi", "model": "texts:2"}, 404, "unknown_model", ["'2'"]),
        ({"input": "hi", "model": "signals"}, 400, "invalid_inputs", ["float sequences", "/embed"]),
        ({"model": "texts"}, 400, "invalid_request", ["input"]),
    ],
    ids=str,
)
def test_openai_errors_are_shaped_and_named(both: TestClient, body: Any, status: int, code: str, words: list[str]):
    response = both.post("/v1/embeddings", json={"model": "texts"} | body)
    assert_openai_error(response, status, code, INVALID, *words)
    assert embeddings(both, "hi").status_code == 200


def test_openai_errors_of_the_framework_are_shaped_too(
    both: TestClient, text_engine: Engine, monkeypatch: pytest.MonkeyPatch
):
    assert_openai_error(both.get("/v1/nothing"), 404, "not_found", INVALID)
    assert_openai_error(both.get("/v1/embeddings"), 405, "method_not_allowed", INVALID, "POST")
    assert_openai_error(both.post("/v1/embeddings", content=b"{"), 400, "invalid_json", INVALID)
    large = json.dumps({"input": "a" * 30_000, "model": "texts"}).encode()
    for content in (large, iter([large])):
        assert_openai_error(both.post("/v1/embeddings", content=content), 413, "body_too_large", INVALID)
    text_engine.batcher.queue.tokens = 10**9
    assert_openai_error(embeddings(both, "hi"), 429, "overloaded", "rate_limit_error")
    text_engine.batcher.queue.tokens = 0
    with monkeypatch.context() as patch:
        patch.setattr(text_engine.encoder, "run", lambda _: 1 / 0)
        assert_openai_error(embeddings(both, "hi"), 500, "internal_error", "server_error", "log")
    assert embeddings(both, "hi").status_code == 200


def test_models_are_listed_by_name_and_version(both: TestClient):
    listed = both.get("/v1/models").json()
    assert [model["id"] for model in listed["data"]] == ["texts", "signals", "texts:1", "signals:7"]
    assert {model["object"] for model in listed["data"]} == {"model"}
    one = both.get("/v1/models/texts:1").json()
    assert one == listed["data"][2] and one["created"] > 1.7e9
    assert_openai_error(both.get("/v1/models/nope"), 404, "unknown_model", INVALID, "texts")
