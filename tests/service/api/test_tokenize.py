"""/tokenize: the tokens that a model reads."""

from typing import Any

from starlette.testclient import TestClient

from tests.service.http.test_errors import assert_error


def tokenize(client: TestClient, inputs: Any, **more: Any) -> list[list[dict[str, Any]]]:
    response = client.post("/tokenize", json={"inputs": inputs} | more)
    assert response.status_code == 200, response.text
    return response.json()["tokens"]


def test_tokens_are_told_with_their_places(embedding: TestClient):
    (tokens,) = tokenize(embedding, "b  zz")
    names = ["id", "text", "special", "start", "stop"]
    expected = [(1, "[CLS]", True, 0, 0), (5, "b", False, 0, 1), (3, "[UNK]", False, 3, 5), (2, "[SEP]", True, 0, 0)]
    assert tokens == [dict(zip(names, values, strict=True)) for values in expected]
    prompted = tokenize(embedding, ["c", "d"], prompt_name="passage")
    assert [[token["text"] for token in row] for row in prompted] == [["[CLS]", "p", x, "[SEP]"] for x in "cd"]


def test_pairs_and_other_classifiers_are_tokenized_as_they_are_read(ranking: TestClient, client: TestClient):
    (pair,) = tokenize(ranking, [["a b", "c"]])
    assert [token["text"] for token in pair] == ["[CLS]", "a", "b", "[SEP]", "c", "[SEP]"]
    assert [len(row) for row in tokenize(client, ["hi", "rain " * 50])] == [1, 12]


def test_what_cannot_be_tokenized_is_refused(embedding: TestClient, feature_client: TestClient):
    assert_error(embedding.post("/tokenize", json={"inputs": ["a", " "]}), 400, "empty_text", "inputs[1]")
    assert_error(embedding.post("/tokenize", json={"inputs": ["a"] * 9}), 413, "too_many_rows")
    unknown = {"inputs": "a", "prompt_name": "x"}
    assert_error(embedding.post("/tokenize", json=unknown), 400, "unknown_prompt", "query, passage")
    assert_error(feature_client.post("/tokenize", json={"inputs": "a"}), 400, "wrong_task", "float sequences")
