"""What adopted encoders answer to predictions and embeddings, and what is counted of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from export.adopt.directory.reference import NetworkReference
from runtime.artifact import Artifact
from runtime.graph.batch import EncodedBatch, token_values, unit
from runtime.graph.encoder import Encoder
from runtime.graph.texts import make_input_encoder
from service.inference.engine import Engine
from tests.adopted import EMBEDDING, SUBJECTS, make_pairs, make_texts, source_of
from tests.conftest import serve, settings_for
from tests.helpers import rewrite
from tests.model.pretrained.networks import adopted
from tests.service.api.test_openai import assert_openai_error
from tests.service.api.v2.asking import ask, outputs, tensor
from tests.service.http.test_errors import assert_error
from tests.service.norm_stats.test_report import assert_matches
from tests.service.telemetry.test_prometheus import value

TASKS = {"embedding": "letters", "rerank": "order", "multilabel": "subjects"}
TEXTS = make_texts(7, seed=9)
every = pytest.mark.parametrize("kind", TASKS)


@pytest.fixture
def artifact(kind: str, request: pytest.FixtureRequest) -> Artifact:
    return request.getfixturevalue(f"{kind}_artifact")


@pytest.fixture
def service(artifact: Artifact) -> Iterator[TestClient]:
    """A service of the artifact of this kind that has answered nothing yet."""
    settings = settings_for(artifact)
    yield from serve(settings, Engine(settings))


embedding = pytest.mark.parametrize("kind", ["embedding"])
rerank = pytest.mark.parametrize("kind", ["rerank"])
multilabel = pytest.mark.parametrize("kind", ["multilabel"])


def run(artifact: Artifact, inputs: list[Any], prompt: str | None = None) -> EncodedBatch:
    return Encoder(artifact).run([item.tokens for item in make_input_encoder(artifact).encode(inputs, prompt)])


def embed(client: TestClient, inputs: Any, **more: Any) -> np.ndarray:
    response = client.post("/embed", json={"inputs": inputs} | more)
    assert response.status_code == 200, response.text
    return np.array([row["embedding"] for row in response.json()["embeddings"]])


def predict(client: TestClient, inputs: Any, **more: Any) -> list[dict[str, Any]]:
    response = client.post("/predict", json={"inputs": inputs} | more)
    assert response.status_code == 200, response.text
    return response.json()["predictions"]


# POST /embed and /v1/embeddings


@embedding
def test_embeddings_are_those_of_the_encoder(service: TestClient, artifact: Artifact):
    raw = run(artifact, TEXTS).embedding
    found = embed(service, TEXTS)
    np.testing.assert_allclose(found, unit(raw), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(embed(service, TEXTS, normalize=True), found, atol=1e-6)
    np.testing.assert_allclose(embed(service, TEXTS, normalize=False), raw, rtol=1e-5, atol=1e-5)


@embedding
def test_a_model_without_normalize_gives_its_vectors_as_they_are(artifact: Artifact, tmp_path: Path):
    path = rewrite(tmp_path / "raw" / "1", artifact, normalize=False, name="raw")
    settings = settings_for(artifact).model_copy(update={"model": path})
    for client in serve(settings, Engine(settings)):
        raw = run(artifact, TEXTS).embedding
        np.testing.assert_allclose(embed(client, TEXTS), raw, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(embed(client, TEXTS, normalize=True), unit(raw), atol=1e-6)


@embedding
def test_a_prompt_changes_the_vector(service: TestClient, artifact: Artifact):
    plain, asked = embed(service, TEXTS), embed(service, TEXTS, prompt_name="query")
    assert (np.abs(plain - asked).max(1) > 1e-3).all()
    np.testing.assert_allclose(asked, unit(run(artifact, TEXTS, "query").embedding), atol=1e-6)
    np.testing.assert_allclose(asked, embed(service, [f"a b {given}" for given in TEXTS]), atol=1e-6)
    for name in ("x", "", "Query"):
        body = {"inputs": TEXTS, "prompt_name": name}
        assert_error(service.post("/embed", json=body), 400, "unknown_prompt", "query, passage")


@embedding
def test_a_text_has_the_same_vector_alone(service: TestClient):
    alone = np.concatenate([embed(service, given) for given in TEXTS])
    np.testing.assert_allclose(embed(service, TEXTS), alone, atol=1e-6)


@embedding
def test_openai_embeddings_are_the_same(service: TestClient):
    body = service.post("/v1/embeddings", json={"model": "letters", "input": TEXTS}).json()
    np.testing.assert_allclose([row["embedding"] for row in body["data"]], embed(service, TEXTS), atol=1e-6)
    ids = [[1, 4, 5, 2], [1, 6, 2]]
    by_ids = service.post("/v1/embeddings", json={"model": "letters", "input": ids}).json()
    np.testing.assert_allclose([row["embedding"] for row in by_ids["data"]], embed(service, ["a b", "c"]), atol=1e-6)


@embedding
def test_every_token_that_the_graph_knows_can_be_sent(service: TestClient):
    """Graphs often know more tokens than their tokenizer has."""
    assert service.post("/v1/embeddings", json={"model": "letters", "input": [1, 59, 2]}).status_code == 200
    ids = tensor("input_ids", [1, 3], "INT64", data=[1, 45, 2])
    assert len(outputs(ask(service, "/v2/models/letters/infer", ids))["embedding"]) == 32
    refused = service.post("/v1/embeddings", json={"model": "letters", "input": [1, 60, 2]})
    assert_openai_error(refused, 400, "unknown_token", "invalid_request_error", "0 to 59")


@rerank
def test_a_reranker_gives_no_embeddings(service: TestClient):
    assert_error(service.post("/embed", json={"inputs": make_pairs(1)}), 400, "wrong_task", "POST /rerank")
    refused = service.post("/v1/embeddings", json={"model": "order", "input": "a"})
    assert_openai_error(refused, 400, "wrong_task", "invalid_request_error", "/rerank")


# POST /predict


@multilabel
def test_scores_of_several_labels_are_sigmoids(service: TestClient, artifact: Artifact):
    logits = run(artifact, TEXTS).logits.astype(np.float64)
    expected = 1 / (1 + np.exp(-logits))
    rows = predict(service, TEXTS, top_k=9)
    for row, scores in zip(rows, expected, strict=True):
        found = {candidate["label"]: candidate["score"] for candidate in row["top"]}
        assert list(found) == [SUBJECTS[place] for place in np.argsort(-scores)]
        np.testing.assert_allclose([found[label] for label in SUBJECTS], scores, atol=1e-6)
        assert (row["label"], row["score"]) == (row["top"][0]["label"], row["top"][0]["score"])
    assert (np.abs(expected.sum(1) - 1) > 0.01).any()


@multilabel
def test_a_text_has_the_same_labels_alone(service: TestClient):
    for together, given in zip(predict(service, TEXTS), TEXTS, strict=True):
        (alone,) = predict(service, given)
        assert alone["label"] == together["label"]
        assert alone["score"] == pytest.approx(together["score"], abs=1e-6)


@multilabel
def test_a_classifier_gives_embeddings_as_they_are(service: TestClient, artifact: Artifact):
    np.testing.assert_allclose(embed(service, TEXTS), run(artifact, TEXTS).embedding, rtol=1e-5, atol=1e-5)


@embedding
def test_a_model_without_labels_predicts_nothing(service: TestClient):
    assert_error(service.post("/predict", json={"inputs": "a"}), 400, "wrong_task", "letters", "POST /embed")


@rerank
def test_a_reranker_predicts_nothing(service: TestClient):
    assert_error(service.post("/predict", json={"inputs": make_pairs(1)}), 400, "wrong_task", "POST /rerank")


# what is told of them


@embedding
def test_statistics_are_those_of_pytorch_in_float64(service: TestClient, artifact: Artifact, shared_path: Path):
    texts = make_texts(48, seed=3)
    for start in range(0, 48, 8):
        embed(service, texts[start : start + 8])
    sequences = [item.tokens for item in make_input_encoder(artifact).encode(texts)]
    seen = NetworkReference(adopted(source_of(EMBEDDING, shared_path))[1]).run(sequences).norm_statistics
    report = service.get("/norm-stats").json()
    assert report["requests"] == 48
    assert [layer["name"] for layer in report["layers"]] == artifact.manifest.layer_names
    assert_matches(report["layers"], token_values(seen, artifact.manifest.layers))


@every
def test_each_request_is_counted_under_its_route(kind: str, service: TestClient, artifact: Artifact):
    if kind == "rerank":
        path, body, rows = "/rerank", {"query": "a b", "documents": TEXTS}, 7
    elif kind == "embedding":
        path, body, rows = "/similarity", {"source_sentence": "a b", "sentences": TEXTS}, 8
    else:
        path, body, rows = "/predict", {"inputs": TEXTS}, 7
    for _ in range(2):
        assert service.post(path, json=body).status_code == 200
    assert service.post(path, json={}).status_code == 400
    metrics, report = service.get("/metrics").text, service.get("/norm-stats").json()
    assert value(metrics, "addnorm_requests_total", route=path, status="200", protocol="http") == 2
    assert value(metrics, "addnorm_requests_total", route=path, status="400", protocol="http") == 1
    assert value(metrics, "addnorm_rows_total") == report["requests"] == 2 * rows
    assert [layer["name"] for layer in report["layers"]] == artifact.manifest.layer_names
    assert all(layer["live"]["tokens"] > 0 for layer in report["layers"])


@every
def test_the_model_says_what_it_is(kind: str, service: TestClient, artifact: Artifact):
    body = service.get("/model").json()
    manifest = artifact.manifest
    assert (body["model"], body["task"], body["labels"]) == (TASKS[kind], manifest.task, manifest.labels)
    assert (body["activation"], body["normalize"]) == (manifest.activation, manifest.normalize)
    assert body["inputs"] == manifest.inputs.model_dump()
    assert (body["layers"], body["unobserved"], body["training"]) == (manifest.layer_names, [], manifest.training)
