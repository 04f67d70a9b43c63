import tomllib
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from runtime.artifact import Artifact
from service import VERSION
from service.api.v2.metadata import EXTENSIONS
from service.inference.engine import Engine
from service.inference.registry import ModelRegistry
from tests.apps import make_app
from tests.conftest import settings_for
from tests.service.api.v2.asking import FEATURES, INFER, ask, tensor, text
from tests.service.http.test_errors import assert_error

MODEL = "/v2/models/texts"
ZERO = {"count": 0, "ns": 0}

TRITON_TYPES = {"BYTES": "TYPE_STRING", "FP32": "TYPE_FP32", "INT64": "TYPE_INT64"}


def test_server_says_what_it_is_and_has(client: TestClient):
    assert client.get("/v2").json() == {"name": "addnorm", "version": VERSION, "extensions": EXTENSIONS}
    project = tomllib.loads((Path(__file__).parents[4] / "pyproject.toml").read_text())
    assert project["project"]["version"] == VERSION


def test_the_repository_is_an_extension_where_models_are_loaded(text_artifact: Artifact, text_engine: Engine):
    settings = settings_for(text_artifact).model_copy(update={"model_control": "explicit"})
    client = TestClient(make_app(settings, ModelRegistry(text_engine)))
    assert client.get("/v2").json()["extensions"] == sorted([*EXTENSIONS, "model_repository"])


def test_server_and_models_are_live_and_ready(client: TestClient):
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    for path in (MODEL, f"{MODEL}/versions/1"):
        assert client.get(f"{path}/ready").json() == {"name": "texts", "ready": True}


def test_metadata_and_configuration_agree(client: TestClient, feature_client: TestClient):
    for asking, model, dims in ((client, MODEL, []), (feature_client, "/v2/models/signals", [-1, 4])):
        metadata, config = asking.get(model).json(), asking.get(f"{model}/config").json()
        assert metadata["platform"] == "onnx_onnxv1"
        assert [tensor["shape"] for tensor in metadata["inputs"]] == [[-1, *dims]]
        assert config["max_batch_size"] == 8
        for here, there in (("inputs", "input"), ("outputs", "output")):
            assert [(item["name"], TRITON_TYPES[item["datatype"]], item["shape"][1:]) for item in metadata[here]] == [
                (item["name"], item["data_type"], item["dims"]) for item in config[there]
            ]


def test_metadata_is_what_infer_takes_and_gives(client: TestClient):
    metadata = client.get(MODEL).json()
    names = [{"name": output["name"]} for output in metadata["outputs"]]
    found = ask(client, INFER, text("hi", "snow"), outputs=names).json()["outputs"]
    assert [(output["name"], output["datatype"]) for output in found] == [
        (output["name"], output["datatype"]) for output in metadata["outputs"]
    ]
    for output, promised in zip(found, metadata["outputs"], strict=True):
        assert output["shape"] == [2, *promised["shape"][1:]]


@pytest.mark.parametrize("end", ["", "/ready", "/config", "/stats", "/norm-stats"])
def test_unknown_names_and_versions_are_told(client: TestClient, end: str):
    assert_error(client.get(f"/v2/models/no{end}"), 404, "unknown_model", "'no'", "texts")
    assert_error(client.get(f"{MODEL}/versions/2{end}"), 404, "unknown_model", "'2'")
    assert client.get(f"{MODEL}/versions/1{end}").status_code == 200


def test_norm_stats_are_those_of_the_model(client: TestClient):
    ask(client, INFER, text("hi", "snow"))
    whole, layer = client.get(f"{MODEL}/norm-stats").json(), client.get(f"{MODEL}/norm-stats/embeddings.norm").json()
    assert (whole["model"], whole["requests"]) == ("texts", 2)
    assert layer["layer"]["name"] == "embeddings.norm"
    windowed = client.get(f"{MODEL}/versions/1/norm-stats?window=5m").json()
    assert windowed["layers"] == client.get("/norm-stats?window=5m").json()["layers"]
    assert_error(client.get(f"{MODEL}/norm-stats?window=5x"), 400, "invalid_window", "5x")
    assert_error(client.get(f"{MODEL}/norm-stats/nope"), 404, "unknown_layer", "nope")


def statistics(client: TestClient, path: str = f"{MODEL}/stats") -> Any:
    (found,) = client.get(path).json()["model_stats"]
    return found


def test_statistics_start_at_nothing(client: TestClient):
    found = statistics(client)
    assert (found["name"], found["version"]) == ("texts", "1")
    assert (found["last_inference"], found["inference_count"], found["execution_count"]) == (0, 0, 0)
    parts = ["success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss"]
    assert found["inference_stats"] == dict.fromkeys(parts, ZERO)


def test_statistics_count_requests_rows_and_batches(client: TestClient):
    ask(client, INFER, text(*["hi"] * 5))
    client.post("/predict", json={"inputs": ["hi", "snow"]})
    client.post("/embed", json={"inputs": "hi"})
    client.post("/v1/embeddings", json={"input": "hi", "model": "texts"})
    ask(client, INFER, text(""))  # understood, but not answered
    client.post("/predict", json={"inputs": ["hi"], "timeout": 1e-9})
    ask(client, INFER, text("hi") | {"shape": "x"})  # not understood
    found = statistics(client)
    assert (found["inference_count"], found["execution_count"]) == (9, 4)
    stats = found["inference_stats"]
    assert [stats[name]["count"] for name in ("success", "fail", "queue", "compute_infer")] == [4, 2, 4, 4]
    parts = ("queue", "compute_input", "compute_infer", "compute_output")
    assert all(stats[name]["ns"] > 0 for name in parts if name != "queue")
    assert sum(stats[name]["ns"] for name in parts) <= stats["success"]["ns"]
    assert (stats["cache_hit"], stats["cache_miss"]) == (ZERO, ZERO)
    assert {batch["batch_size"]: batch["compute_infer"]["count"] for batch in found["batch_stats"]} == {
        5: 1,
        2: 1,
        1: 2,
    }
    assert found["last_inference"] > 1e12


def test_statistics_of_all_models(text_artifact: Artifact, text_engine: Engine, feature_engine: Engine):
    models = ModelRegistry(text_engine, feature_engine)
    with TestClient(make_app(settings_for(text_artifact), models)) as client:
        ask(client, FEATURES, tensor("features", [1, 1, 4], "FP32", data=[0] * 4))
        everything = client.get("/v2/models/stats").json()["model_stats"]
        assert [(model["name"], model["inference_count"]) for model in everything] == [("texts", 0), ("signals", 1)]
        assert statistics(client, "/v2/models/signals/versions/7/stats") == everything[1]


def test_defect_in_a_plain_route_is_answered(client: TestClient, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as patch:
        patch.setattr("service.api.v2.routes.model_config", lambda _: 1 / 0)
        assert_error(client.get(f"{MODEL}/config"), 500, "internal_error", "log")
    assert client.get(f"{MODEL}/config").status_code == 200
