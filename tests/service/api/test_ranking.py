"""POST /rerank, /similarity and /tokenize."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from runtime.artifact import Artifact
from runtime.graph.batch import unit
from runtime.graph.encoder import Encoder
from runtime.graph.texts import make_input_encoder
from service.inference.engine import Engine
from tests.adopted import MAX_TOKENS, make_texts
from tests.conftest import serve, settings_for
from tests.helpers import rewrite
from tests.service.api.v2.asking import ask, outputs, tensor
from tests.service.http.test_errors import assert_error

QUERY, DOCUMENTS = "a b c", ["d e f", "a b", "m n o p", "i j i j k", "a b c d", "p", "g h e"]


def rerank(client: TestClient, documents: list[str], query: str = QUERY, **more: Any) -> Any:
    response = client.post("/rerank", json={"query": query, "documents": documents} | more)
    assert response.status_code == 200, response.text
    return response.json()


def scores(client: TestClient, documents: list[str], **more: Any) -> list[float]:
    """In the order of the documents."""
    results = rerank(client, documents, **more)["results"]
    return [result["relevance_score"] for result in sorted(results, key=lambda result: result["index"])]


def similarities(client: TestClient, source: str, sentences: list[str], **more: Any) -> list[float]:
    response = client.post("/similarity", json={"source_sentence": source, "sentences": sentences} | more)
    assert response.status_code == 200, response.text
    return response.json()["similarities"]


def expected_logits(artifact: Artifact, documents: list[str]) -> np.ndarray:
    """Each pair alone."""
    encoder = Encoder(artifact)
    pairs = make_input_encoder(artifact).encode([[QUERY, document] for document in documents])
    return np.array([encoder.run([pair.tokens]).logits[0, 0] for pair in pairs], dtype=np.float64)


# POST /rerank


def test_documents_come_best_first(ranking: TestClient, rerank_artifact: Artifact):
    body = rerank(ranking, DOCUMENTS)
    logits = expected_logits(rerank_artifact, DOCUMENTS)
    assert (body["model"], body["version"], body["truncated"]) == ("order", "1", [])
    assert [result["index"] for result in body["results"]] == np.argsort(-logits).tolist()
    assert all(result.keys() == {"index", "relevance_score"} for result in body["results"])
    np.testing.assert_allclose(scores(ranking, DOCUMENTS), 1 / (1 + np.exp(-logits)), atol=1e-6)


def test_raw_scores_are_logits_in_the_same_order(ranking: TestClient, rerank_artifact: Artifact):
    raw = rerank(ranking, DOCUMENTS, raw_scores=True)["results"]
    assert [result["index"] for result in raw] == [result["index"] for result in rerank(ranking, DOCUMENTS)["results"]]
    found = scores(ranking, DOCUMENTS, raw_scores=True)
    np.testing.assert_allclose(found, expected_logits(rerank_artifact, DOCUMENTS), rtol=1e-5, atol=1e-5)


def test_scores_of_a_model_with_identity_are_logits(rerank_artifact: Artifact, tmp_path: Path):
    settings = settings_for(rerank_artifact).model_copy(
        update={"model": rewrite(tmp_path / "order" / "1", rerank_artifact, activation="identity")}
    )
    logits = expected_logits(rerank_artifact, DOCUMENTS)
    for client in serve(settings, Engine(settings)):
        np.testing.assert_allclose(scores(client, DOCUMENTS), logits, rtol=1e-5, atol=1e-5)
        sent = tensor("text", [1, 2], "BYTES", data=[QUERY, DOCUMENTS[0]])
        assert outputs(ask(client, "/v2/models/order/infer", sent))["score"] == pytest.approx(logits[:1], rel=1e-5)


@pytest.mark.parametrize("count", [1, 3, 7, 100])
def test_the_best_are_the_first_of_all(ranking: TestClient, count: int):
    assert rerank(ranking, DOCUMENTS, top_n=count)["results"] == rerank(ranking, DOCUMENTS)["results"][:count]


def test_documents_are_returned_where_they_are_asked_for(ranking: TestClient):
    results = rerank(ranking, DOCUMENTS, return_documents=True, top_n=3)["results"]
    assert [result["document"] for result in results] == [DOCUMENTS[result["index"]] for result in results]


def test_equal_documents_keep_their_order(ranking: TestClient):
    results = rerank(ranking, ["a b", "p", "a b", "p", "a b"])["results"]
    order = [result["index"] for result in results]
    assert order in ([0, 2, 4, 1, 3], [1, 3, 0, 2, 4])


def test_a_document_has_the_same_score_alone(ranking: TestClient):
    together = scores(ranking, DOCUMENTS)
    alone = [scores(ranking, [document])[0] for document in DOCUMENTS]
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_documents_that_were_cut_are_listed(ranking: TestClient):
    body = rerank(ranking, ["a", "b " * 50, "c", "d " * 30], top_n=1)
    assert (body["truncated"], len(body["results"])) == ([1, 3], 1)
    assert rerank(ranking, ["b " * (MAX_TOKENS - 6)])["truncated"] == []
    assert rerank(ranking, ["b " * (MAX_TOKENS - 5)])["truncated"] == [0]


def test_query_and_document_are_not_the_same(ranking: TestClient):
    forth, back = scores(ranking, ["m n o p"]), rerank(ranking, [QUERY], "m n o p")["results"]
    assert abs(forth[0] - back[0]["relevance_score"]) > 1e-4


@pytest.mark.parametrize(
    ("body", "status", "code", "word"),
    [
        ({"documents": ["a"]}, 400, "invalid_request", "query"),
        ({"query": "a"}, 400, "invalid_request", "documents"),
        ({"query": "", "documents": ["a"]}, 400, "invalid_request", "query"),
        ({"query": "a", "documents": []}, 400, "invalid_request", "documents"),
        ({"query": "a", "documents": "a"}, 400, "invalid_request", "documents"),
        ({"query": "a", "documents": [5]}, 400, "invalid_request", "documents"),
        ({"query": "a", "documents": ["a"], "top_n": 0}, 400, "invalid_request", "top_n"),
        ({"query": "a", "documents": ["a"], "top_n": "1"}, 400, "invalid_request", "top_n"),
        ({"query": "a", "documents": ["a"], "raw_scores": 1}, 400, "invalid_request", "raw_scores"),
        ({"query": " ", "documents": ["a", " "]}, 400, "empty_text", "documents[1]"),
        ({"query": "a", "documents": ["a"] * 9}, 413, "too_many_rows", "documents has 9 rows"),
        ({"query": "a", "documents": ["a"], "model": "letters"}, 404, "unknown_model", "letters"),
        ({"query": "a", "documents": ["a"], "other": 1}, 400, "invalid_request", "other"),
    ],
    ids=str,
)
def test_what_cannot_be_ranked_is_refused(ranking: TestClient, body: Any, status: int, code: str, word: str):
    assert_error(ranking.post("/rerank", json=body), status, code, word)


@pytest.mark.parametrize("path", ["/rerank", "/similarity", "/tokenize"])
def test_what_is_no_json_is_refused(ranking: TestClient, path: str):
    assert_error(ranking.post(path, content=b"{"), 400, "invalid_json")


def test_other_models_do_not_rank(embedding: TestClient, client: TestClient, feature_client: TestClient):
    body = {"query": "a", "documents": ["a"]}
    for other in (embedding, client, feature_client):
        assert_error(other.post("/rerank", json=body), 400, "wrong_task", "/embed")


# POST /similarity


def test_similarities_are_cosines(embedding: TestClient, embedding_artifact: Artifact):
    texts = make_texts(6, seed=4)
    encoded = make_input_encoder(embedding_artifact).encode(texts)
    vectors = Encoder(embedding_artifact).run([item.tokens for item in encoded]).embedding.astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = similarities(embedding, texts[0], texts[1:])
    np.testing.assert_allclose(found, vectors[1:] @ vectors[0], atol=1e-5)
    np.testing.assert_allclose(similarities(embedding, "a b", ["a b"]), [1], atol=1e-6)


def test_rounding_leads_no_similarity_beyond_one(embedding: TestClient, monkeypatch: pytest.MonkeyPatch):
    beyond = np.array([[1], [-1], [1]], np.float32) * np.float32(1 + 1e-7)
    monkeypatch.setattr("service.api.ranking.unit", lambda _: beyond)
    assert similarities(embedding, "a", ["a", "b"]) == [1.0, -1.0]


@pytest.mark.parametrize(("row", "name"), [(0, "sentences[0]"), (1, "sentences[1]"), (2, "source_sentence")])
def test_what_overflows_the_model_is_named(
    row: int, name: str, embedding_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
):
    settings = settings_for(embedding_artifact)
    engine = Engine(settings)
    run = engine.encoder.run

    def overflow(sequences: Any) -> Any:
        batch = run(sequences)
        batch.scores = [np.nan if len(sequence) == 3 + row else 1.0 for sequence in sequences]
        return batch

    monkeypatch.setattr(engine.encoder, "run", overflow)
    for client in serve(settings, engine):  # texts of 1 to 3 letters, between two special tokens
        response = client.post("/similarity", json={"source_sentence": "a b c", "sentences": ["a", "a b"]})
        assert_error(response, 400, "not_finite", f"{name} overflows")


def test_a_prompt_goes_before_source_and_sentences(embedding: TestClient):
    prompted = similarities(embedding, "k l", ["m", "e f g"], prompt_name="query")
    written = similarities(embedding, "a b k l", ["a b m", "a b e f g"])
    np.testing.assert_allclose(prompted, written, atol=1e-6)


def test_a_sentence_is_as_near_alone(embedding: TestClient):
    texts = make_texts(8, seed=6)
    alone = [similarities(embedding, "a b c", [text])[0] for text in texts]
    np.testing.assert_allclose(similarities(embedding, "a b c", texts), alone, atol=1e-6)


def test_a_classifier_gives_similarities_too(client: TestClient, text_encoder: Encoder, text_engine: Engine):
    rows = text_engine.inputs.encode(["hi", "snow"])
    first, second = unit(text_encoder.run([row.tokens for row in rows]).embedding)
    np.testing.assert_allclose(similarities(client, "hi", ["snow"]), [first @ second], atol=1e-5)


@pytest.mark.parametrize(
    ("body", "status", "code", "word"),
    [
        ({"source_sentence": " ", "sentences": ["a"]}, 400, "empty_text", "source_sentence is empty"),
        ({"source_sentence": "a", "sentences": ["a", " "]}, 400, "empty_text", "sentences[1] is empty"),
        ({"source_sentence": "a", "sentences": []}, 400, "invalid_request", "sentences"),
        ({"source_sentence": "a", "sentences": ["a"] * 9}, 413, "too_many_rows", "sentences has 9 rows"),
        ({"source_sentence": "a", "sentences": ["a"], "prompt_name": "x"}, 400, "unknown_prompt", "'x'"),
        ({"sentences": ["a"]}, 400, "invalid_request", "source_sentence"),
    ],
    ids=str,
)
def test_what_cannot_be_compared_is_refused(embedding: TestClient, body: Any, status: int, code: str, word: str):
    assert_error(embedding.post("/similarity", json=body), status, code, word)


def test_models_without_texts_or_vectors_compare_nothing(ranking: TestClient, feature_client: TestClient):
    body = {"source_sentence": "a", "sentences": ["a"]}
    assert_error(ranking.post("/similarity", json=body), 400, "wrong_task", "/rerank")
    assert_error(feature_client.post("/similarity", json=body), 400, "wrong_task", "float sequences")


# POST /tokenize
