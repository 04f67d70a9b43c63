import asyncio
import re
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnxruntime as ort
import pytest
from starlette.testclient import TestClient

from runtime.artifact import Artifact
from runtime.graph.encoder import Encoder
from runtime.manifest import TextInputs
from runtime.precision import Plan, Precision
from service.inference.engine import Engine
from service.inference.registry import ModelRegistry
from service.settings import Settings
from tests.apps import make_app
from tests.helpers import LABELS, TEXTS, Export, random_sequences, rewrite


def predict(client: TestClient, **body: Any) -> list[dict[str, Any]]:
    response = client.post("/predict", json=body)
    assert response.status_code == 200, response.text
    return response.json()["predictions"]


def test_predict_answers_a_single_text(client: TestClient):
    response = client.post("/predict", json={"inputs": "what is my balance"})
    assert response.status_code == 200
    body = response.json()
    assert (body["model"], body["version"]) == ("texts", "1")
    (prediction,) = body["predictions"]
    assert prediction["label"] in LABELS
    assert 1 / 3 <= prediction["score"] <= 1
    assert prediction["top"] == [{"label": prediction["label"], "score": prediction["score"]}]
    assert prediction["truncated"] is False


def test_predict_answers_as_the_encoder_does(client: TestClient, text_engine: Engine, text_encoder: Encoder):
    encoded = text_engine.inputs.encode(TEXTS[:8])
    logits = text_encoder.run([item.tokens for item in encoded]).logits.astype(np.float64)
    scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    predictions = predict(client, inputs=TEXTS[:8], top_k=3)
    for prediction, item, expected in zip(predictions, encoded, scores, strict=True):
        assert prediction["tokens"] == len(item.tokens)
        assert prediction["truncated"] == item.truncated
        assert [c["label"] for c in prediction["top"]] == [LABELS[i] for i in np.argsort(-expected)]
        np.testing.assert_allclose([c["score"] for c in prediction["top"]], np.sort(expected)[::-1], rtol=1e-4)


def test_predict_answers_a_list_in_order(client: TestClient):
    together = predict(client, inputs=["hi", "snow", "what is my balance"])
    alone = [predict(client, inputs=text)[0] for text in ("hi", "snow", "what is my balance")]
    assert [(p["label"], p["tokens"]) for p in together] == [(p["label"], p["tokens"]) for p in alone]
    np.testing.assert_allclose([p["score"] for p in together], [p["score"] for p in alone], rtol=1e-5)


@pytest.mark.parametrize(("top_k", "classes"), [(1, 1), (2, 2), (3, 3), (99, 3), (10**30, 3)])
def test_top_k_classes_are_returned_best_first(client: TestClient, top_k: int, classes: int):
    (prediction,) = predict(client, inputs="hi", top_k=top_k)
    scores = [candidate["score"] for candidate in prediction["top"]]
    assert len(scores) == classes
    assert scores == sorted(scores, reverse=True)
    assert (prediction["label"], prediction["score"]) == (prediction["top"][0]["label"], scores[0])
    assert len(scores) < 3 or sum(scores) == pytest.approx(1)


def test_long_text_is_cut_and_says_so(client: TestClient):
    (prediction,) = predict(client, inputs="rain " * 100)
    assert (prediction["tokens"], prediction["truncated"]) == (12, True)


def test_norm_stats_are_added_where_asked_for(client: TestClient, text_artifact: Artifact):
    for prediction in predict(client, inputs=["hi", "snow"], norm_stats=True):
        layers = prediction["norm_stats"]
        assert [layer["name"] for layer in layers] == [layer.name for layer in text_artifact.manifest.layers]
        assert all(np.isfinite([layer[key] for key in layer if key != "name"]).all() for layer in layers)
    assert not predict(client, inputs="hi")[0].get("norm_stats")


def test_body_is_json_whatever_its_content_type(client: TestClient):
    for headers in ({}, {"Content-Type": "text/plain"}, {"Content-Type": "application/x-www-form-urlencoded"}):
        assert client.post("/predict", content=b'{"inputs": "hi"}', headers=headers).status_code == 200


def test_features_are_answered(feature_client: TestClient, feature_encoder: Encoder, feature_export: Export):
    sequences = random_sequences(feature_export[1], 5)
    predictions = predict(feature_client, inputs=[sequence.tolist() for sequence in sequences])
    best = feature_encoder.run(sequences).logits.argmax(1)
    assert [p["label"] for p in predictions] == [LABELS[i] for i in best]
    assert [p["tokens"] for p in predictions] == [len(sequence) for sequence in sequences]


def test_extreme_features_are_refused_or_answered_with_numbers(feature_client: TestClient):
    response = feature_client.post("/predict", json={"inputs": [[[3e38] * 4]]})  # finite, but no sum of them is
    assert response.status_code in (200, 400)
    assert "null" not in response.text


@pytest.mark.parametrize("absurd", [1e12, 1e18])
def test_absurd_features_are_counted_and_spoil_no_mean(feature_client: TestClient, absurd: float):
    """They are finite, and so is all that the model makes of them."""
    usual = [[[0.5, -1.0, 0.25, 0.75], [1.0, 0.5, -0.5, 0.0]]] * 8
    for _ in range(5):
        feature_client.post("/predict", json={"inputs": usual}).raise_for_status()
    before = feature_client.get("/norm-stats").json()["layers"]
    feature_client.post("/predict", json={"inputs": [[[absurd] * 4]]}).raise_for_status()
    for layer, then in zip(feature_client.get("/norm-stats").json()["layers"], before, strict=True):
        live = layer["live"]
        if live["not_finite"] > then["live"]["not_finite"]:
            assert live["mean"] == then["live"]["mean"] or live["variance"] == then["live"]["variance"]
        for column in ("mean", "variance"):
            assert abs(live[column]["mean"]) < 1e7, "it is the mean of the others"
        for feature in (live["features"] or {}).get("mean", []):
            assert abs(feature) < 1e7
    assert max(layer["live"]["not_finite"] for layer in feature_client.get("/norm-stats").json()["layers"]) == 1


def test_concurrent_requests_are_all_answered(text_artifact: Artifact, text_engine: Engine):
    async def main() -> list[httpx.Response]:
        app = make_app(Settings(model=text_artifact.path, device="cpu"), ModelRegistry(text_engine))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return await asyncio.gather(*(client.post("/predict", json={"inputs": text}) for text in TEXTS))

    responses = asyncio.run(main())
    encoded = text_engine.inputs.encode(TEXTS)
    assert [r.json()["predictions"][0]["tokens"] for r in responses] == [len(item.tokens) for item in encoded]
    state = text_engine.collector.recorder.state()
    assert (state.requests, state.tokens) == (len(TEXTS), sum(len(item.tokens) for item in encoded))


def test_model_says_what_is_served(client: TestClient, text_artifact: Artifact):
    body = client.get("/model").json()
    assert (body["model"], body["version"], body["task"], body["labels"]) == ("texts", "1", "classification", LABELS)
    assert body["inputs"] == TextInputs(max_tokens=12).model_dump()
    assert (body["activation"], body["normalize"], body["unobserved"]) == ("softmax", True, [])
    assert body["layers"] == [layer.name for layer in text_artifact.manifest.layers]
    assert (body["provider"], body["device"]) == ("CPUExecutionProvider", "cpu")


def test_model_tells_precision_and_graph_plan(client: TestClient, text_artifact: Artifact, tmp_path: Path):
    body = client.get("/model").json()
    assert body["precision"] == {"kind": "fp32"}
    assert body["plan"]["source"] == "rule" and body["plan"]["measured"] is None
    plan = Plan(name="default", onnxruntime=ort.__version__, provider="CPUExecutionProvider", speed={})
    precision = Precision(kind="fp16", accuracy={"fp32": 0.9, "fp16": 0.9})
    path = rewrite(tmp_path / "1", text_artifact, plan=plan, precision=precision)
    body = TestClient(make_app(Settings(model=path, device="cpu"))).get("/model").json()
    assert body["precision"] == precision.model_dump()
    assert body["plan"] == {"name": "default", "source": "measured", "measured": plan.model_dump()}


def test_health_says_live_and_ready(client: TestClient):
    assert client.get("/health/live").json() == {"status": "live"}
    assert client.get("/health/ready").json() == {
        "status": "ready",
        "model": "texts",
        "version": "1",
        "provider": "CPUExecutionProvider",
        "device": "cpu",
        "requested_device": "cpu",
        "fallback_reason": "",
        "engine": f"onnxruntime {ort.__version__}",
        "precision_in_use": "fp32",
        "precision_fallback": "",
        "workers": 1,
        "statistics": "memory",
        "models": {"texts": ["1"]},
    }


def test_ready_says_why_auto_fell_back(text_artifact: Artifact, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    with TestClient(make_app(Settings(model=text_artifact.path, device="auto"))) as client:
        for path in ("/health/ready", "/model"):
            body = client.get(path).json()
            assert (body["requested_device"], body["device"]) == ("auto", "cpu")
            assert "CUDAExecutionProvider" in body["fallback_reason"]


def test_openapi_lists_every_path(client: TestClient):
    document = client.get("/openapi.json").json()
    assert {path: set(methods) for path, methods in document["paths"].items()} == {
        "/predict": {"post"},
        "/model": {"get"},
        "/norm-stats": {"get"},
        "/norm-stats/baseline": {"delete", "post"},
        "/norm-stats/compare": {"get"},
        "/norm-stats/history": {"get"},
        "/norm-stats/state": {"get"},
        "/norm-stats/{layer}": {"get"},
        "/traffic": {"get"},
        "/metrics": {"get"},
        "/health/live": {"get"},
        "/health/ready": {"get"},
        "/embed": {"post"},
        "/rerank": {"post"},
        "/similarity": {"post"},
        "/tokenize": {"post"},
        "/v1/embeddings": {"post"},
        "/v1/models": {"get"},
        "/v1/models/{model}": {"get"},
        "/v2": {"get"},
        "/v2/health/live": {"get"},
        "/v2/health/ready": {"get"},
        "/v2/models/stats": {"get"},
        **{
            f"/v2/models/{{model}}{version}{end}": {"post" if end == "/infer" else "get"}
            for version in ("", "/versions/{version}")
            for end in ("", "/ready", "/config", "/stats", "/infer", "/norm-stats", "/norm-stats/{layer}")
        },
        "/v2/repository/index": {"post"},
        "/v2/repository/models/{name}/load": {"post"},
        "/v2/repository/models/{name}/unload": {"post"},
    }
    schema = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert set(schema["properties"]) == {"inputs", "top_k", "timeout", "norm_stats", "model", "version"}
    body = document["paths"]["/v2/models/{model}/infer"]["post"]["requestBody"]["content"]
    assert body["application/octet-stream"] == {"schema": {"type": "string", "format": "binary"}}
    tensor = body["application/json"]["schema"]["properties"]["inputs"]["items"]
    assert set(tensor["properties"]) == {"name", "shape", "datatype", "parameters", "data"}
    assert "$defs" not in str(body)


def test_openapi_parameters_are_those_of_the_path(client: TestClient):
    for path, methods in client.get("/openapi.json").json()["paths"].items():
        for operation in methods.values():
            named = {item["name"] for item in operation.get("parameters", []) if item["in"] == "path"}
            assert named == set(re.findall(r"{(\w+)}", path)), path


def test_shutdown_refuses_what_comes_later(text_artifact: Artifact, text_engine: Engine):
    app = make_app(Settings(model=text_artifact.path, device="cpu"), ModelRegistry(text_engine))
    with TestClient(app) as client:
        assert client.post("/predict", json={"inputs": "hi"}).status_code == 200
    response = TestClient(app).post("/predict", json={"inputs": "hi"})
    assert (response.status_code, response.json()["code"]) == (503, "unavailable")
