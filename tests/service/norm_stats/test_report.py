from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from export.verify import expect
from runtime.artifact import Artifact
from runtime.drift.baseline import read_baseline
from runtime.graph.packing import pack
from service.inference.engine import Engine
from tests.helpers import TEXTS, Export, expected_values, random_sequences

FIVE = ("mean", "std", "min", "max", "p01", "p50", "p99")


def stats(client: TestClient) -> dict[str, Any]:
    response = client.get("/norm-stats")
    assert response.status_code == 200, response.text
    return response.json()


def post(client: TestClient, inputs: list[Any], size: int = 3) -> None:
    """Posts inputs in requests of `size`."""
    for start in range(0, len(inputs), size):
        assert client.post("/predict", json={"inputs": inputs[start : start + size]}).status_code == 200


def assert_matches(layers: list[dict[str, Any]], values: np.ndarray) -> None:
    """Live statistics equal a float64 pass over `values` [N, 2L]: means to 1e-5 of sigma, variances relative."""
    for layer, means, variances in zip(layers, values[:, 0::2].T, values[:, 1::2].T, strict=True):
        live, sigma = layer["live"], np.sqrt(variances.mean())
        assert live["tokens"] == len(values)
        for found, expected in zip(
            summary(live["mean"]), (means.mean(), means.std(), means.min(), means.max()), strict=True
        ):
            assert found == pytest.approx(expected, abs=1e-5 * sigma)
        for found, expected in zip(
            summary(live["variance"]),
            (variances.mean(), variances.std(), variances.min(), variances.max()),
            strict=True,
        ):
            assert found == pytest.approx(expected, rel=1e-5)
        for name, q in (("p01", 0.01), ("p50", 0.5), ("p99", 0.99)):
            assert live["variance"][name] == pytest.approx(np.quantile(variances, q, method="lower"), rel=0.008)


def summary(values: dict[str, float]) -> list[float]:
    return [values[name] for name in FIVE[:4]]


def test_statistics_match_pytorch_in_float64(client: TestClient, text_engine: Engine, text_export: Export):
    artifact, served = text_export
    post(client, TEXTS)
    sequences = [item.tokens for item in text_engine.inputs.encode(TEXTS)]
    assert_matches(stats(client)["layers"], expected_values(served, artifact, sequences))


def test_feature_statistics_match_pytorch_in_float64(feature_client: TestClient, feature_export: Export):
    artifact, served = feature_export
    sequences = random_sequences(served, 40, seed=5)
    post(feature_client, [sequence.tolist() for sequence in sequences])
    layers = stats(feature_client)["layers"]
    assert_matches(layers, expected_values(served, artifact, sequences))
    for layer, (mean, variance) in zip(layers, expect(served, pack(sequences)).feature_moments, strict=True):
        np.testing.assert_allclose(layer["live"]["features"]["mean"], mean, atol=1e-5 * np.sqrt(variance).min())
        np.testing.assert_allclose(layer["live"]["features"]["variance"], variance, rtol=1e-5)


@pytest.mark.parametrize("kind", ["text", "feature"])
def test_layers_are_in_network_order_beside_their_baseline(request: pytest.FixtureRequest, kind: str):
    artifact: Artifact = request.getfixturevalue(f"{kind}_artifact")
    body = stats(request.getfixturevalue("client" if kind == "text" else "feature_client"))
    baseline = read_baseline(artifact)
    assert (body["model"], body["version"]) == (artifact.manifest.name, artifact.manifest.version)
    expected = {"source": "validation", "requests": baseline.state.requests, "tokens": baseline.state.tokens}
    assert body["baseline"] == expected | {"taken": None}
    assert [layer["name"] for layer in body["layers"]] == [layer.name for layer in artifact.manifest.layers]
    for index, (layer, norm) in enumerate(zip(body["layers"], artifact.manifest.layers, strict=True)):
        described = (layer["kind"], layer["placement"], layer["d_model"], layer["eps"])
        assert described == (norm.kind, norm.placement, norm.d_model, norm.eps)
        assert layer["baseline"]["tokens"] == baseline.state.tokens
        assert layer["baseline"]["mean"] == baseline.state.summary(2 * index)
        assert layer["baseline"]["variance"] == baseline.state.summary(2 * index + 1)


def test_a_fresh_service_has_counted_nothing(client: TestClient):
    body = stats(client)
    assert (body["requests"], body["tokens"]) == (0, 0)
    for layer in body["layers"]:
        assert (layer["live"]["tokens"], layer["live"]["mean"], layer["live"]["variance"]) == (0, None, None)


def test_only_answered_inputs_are_counted(client: TestClient, text_engine: Engine, monkeypatch: pytest.MonkeyPatch):
    post(client, TEXTS[:7])
    tokens = sum(len(item.tokens) for item in text_engine.inputs.encode(TEXTS[:7]))
    for path in ("/health/live", "/health/ready", "/model", "/norm-stats", "/docs", "/openapi.json", "/nowhere"):
        client.get(path)
    for inputs in ("", None, ["hi", ""], ["hi"] * 9, [5]):
        assert client.post("/predict", json={"inputs": inputs}).is_client_error
    with monkeypatch.context() as patch:
        patch.setattr(text_engine.encoder, "run", lambda _: 1 / 0)
        assert client.post("/predict", json={"inputs": "hi"}).status_code == 500
    body = stats(client)
    assert (body["requests"], body["tokens"]) == (7, tokens)
    assert {layer["live"]["tokens"] for layer in body["layers"]} == {tokens}


def test_asking_for_the_statistics_of_a_request_counts_it_once(client: TestClient):
    client.post("/predict", json={"inputs": ["hi", "snow"], "norm_stats": True})
    assert stats(client)["requests"] == 2


def test_norm_stats_of_a_request_are_the_averages_of_its_tokens(client: TestClient, text_artifact: Artifact):
    response = client.post("/predict", json={"inputs": "what is my balance", "norm_stats": True}).json()
    rows = read_baseline(text_artifact).rows
    deviations = response["predictions"][0]["norm_stats"]
    for index, (one, layer) in enumerate(zip(deviations, stats(client)["layers"], strict=True)):
        assert one["mean"] == pytest.approx(layer["live"]["mean"]["mean"], rel=1e-12)
        assert one["variance"] == pytest.approx(layer["live"]["variance"]["mean"], rel=1e-12)
        z = [
            (one[key] - rows.mean[2 * index + k]) / rows.std[2 * index + k]
            for k, key in enumerate(("mean", "variance"))
        ]
        assert [one["mean_z"], one["variance_z"]] == pytest.approx(z)


def test_one_layer_is_the_same_as_in_all(client: TestClient):
    post(client, TEXTS[:5])
    body = stats(client)
    for layer in body["layers"]:
        response = client.get(f"/norm-stats/{layer['name']}")
        assert response.status_code == 200
        one = {k: v for k, v in response.json()["layer"].items() if v is not None}
        assert one.keys() - layer.keys() == {"distributions"}  # of one layer only
        assert response.json()["layer"]["live"]["mean"] == layer["live"]["mean"]
        assert response.json()["requests"] == body["requests"]


def test_what_tells_of_single_requests_is_withheld_where_few_were_seen(client: TestClient, feature_client: TestClient):
    for service, inputs in ((client, TEXTS), (feature_client, [[[1, 2, 3, 4]]] * 30)):
        post(service, inputs[:29], 1)
        few = stats(service)["layers"]
        post(service, inputs[29:30])
        enough = stats(service)["layers"]
        for withheld, shown in zip(few, enough, strict=True):
            for column in ("mean", "variance"):
                values = withheld["live"][column]
                assert [values[name] for name in ("min", "max", "p01", "p99")] == [None] * 4
                assert None not in (values["mean"], values["std"], values["p50"])
                assert None not in shown["live"][column].values()
            assert withheld["live"].get("features") is None


def test_unknown_layer_is_not_found(client: TestClient):
    response = client.get("/norm-stats/blocks.9.norm")
    assert response.status_code == 404
    assert response.json()["code"] == "unknown_layer"
    assert "'blocks.9.norm'" in response.json()["error"]
    assert "embeddings.norm" in response.json()["error"]


def test_batch_norm_shows_live_and_running_features(feature_client: TestClient, feature_artifact: Artifact):
    post(feature_client, [[[1, 2, 3, 4], [4, 3, 2, 1]]] * 30)
    for layer, norm in zip(stats(feature_client)["layers"], feature_artifact.manifest.layers, strict=True):
        assert layer["running"] == {"mean": norm.running_mean, "variance": norm.running_variance}
        for state in (layer["live"], layer["baseline"]):
            assert len(state["features"]["mean"]) == len(state["features"]["variance"]) == 16


def test_layer_norm_has_neither_features_nor_running_moments(client: TestClient):
    for layer in stats(client)["layers"]:
        assert not layer.get("running")
        assert not layer["live"].get("features")


def test_one_overflow_does_not_spoil_what_follows(feature_client: TestClient):
    feature_client.post("/predict", json={"inputs": [[[3e38] * 4]]})  # finite, but no sum of them is
    post(feature_client, [[[1, 2, 3, 4]]] * 30)
    for layer in stats(feature_client)["layers"]:
        assert None not in layer["live"]["features"]["mean"]
        assert None not in layer["live"]["features"]["variance"]
