"""Networks that read tensors, over the protocol and at /predict."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from runtime.artifact import Artifact, read_artifact
from runtime.graph.tensor_graph import TensorGraph
from service.inference.engine import Engine
from service.inference.registry import ModelRegistry
from service.serve import example
from tests.apps import make_app
from tests.conftest import settings_for
from tests.export.adopt.tensors.networks import adopt, exported, make, rows_of
from tests.helpers import once
from tests.service.api.v2.asking import ask, ask_binary, binary, outputs, tensor

IMAGE, PAIR = "/v2/models/image/infer", "/v2/models/pair/infer"
LABELS = ("a", "b", "c")


@pytest.fixture(scope="module")
def networks(shared_path: Path) -> list[Artifact]:
    def build(folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "labels.txt").write_text("\n".join(LABELS))
        adopt(folder, "image", labels=folder / "labels.txt", rows=40)
        adopt(folder, "pair")
        adopt(folder, "half")
        adopt(folder, "patches", exported("patches", rows=1))

    folder = once(shared_path / "networks", build)
    return [read_artifact(folder / "models" / name / "1") for name in ("image", "pair", "patches", "half")]


@pytest.fixture(scope="module")
def asked(networks: list[Artifact]) -> Iterator[TestClient]:
    settings = settings_for(networks[0])
    models = ModelRegistry(*(Engine(settings, artifact=artifact) for artifact in networks))
    with TestClient(make_app(settings, models), raise_server_exceptions=False) as client:
        yield client


def image(rows: Any) -> dict[str, Any]:
    return tensor("image", list(np.shape(rows)), "FP32", data=np.ravel(rows).tolist())


def expected(rows: np.ndarray) -> np.ndarray:
    import torch

    with torch.no_grad():
        return make("image").double()(torch.from_numpy(rows).double()).numpy()


def test_metadata_list_shapes(asked: TestClient):
    found = asked.get("/v2/models/pair").json()
    assert found["inputs"] == [
        {"name": "columns", "datatype": "FP32", "shape": [-1, 3]},
        {"name": "kind", "datatype": "INT64", "shape": [-1]},
    ]
    assert found["outputs"][:2] == [
        {"name": "scores", "datatype": "FP32", "shape": [-1, 2]},
        {"name": "energy", "datatype": "FP32", "shape": [-1, 1]},
    ]
    config = asked.get("/v2/models/pair/config").json()
    assert [(item["data_type"], item["dims"]) for item in config["input"]] == [("TYPE_FP32", [3]), ("TYPE_INT64", [])]


def test_json_and_binary_give_what_the_network_gives(asked: TestClient):
    rows = rows_of("image", 3, seed=5)["image"]
    found = outputs(ask(asked, IMAGE, image(rows)))
    np.testing.assert_allclose(np.reshape(found["scores"], (3, 3)), expected(rows), atol=1e-5)
    assert found["label"] == [LABELS[best] for best in expected(rows).argmax(1)]
    sent = binary("image", [3, 1, 8, 8], "FP32", rows.nbytes)
    assert outputs(ask_binary(asked, IMAGE, rows.tobytes(), sent)) == found
    alone = asked.post(IMAGE, content=rows[:1].tobytes(), headers={"Inference-Header-Content-Length": "0"})
    first = np.frombuffer(alone.content[int(alone.headers["Inference-Header-Content-Length"]) :], "<f4", 3)
    np.testing.assert_allclose(first, expected(rows)[0], atol=1e-5)


def test_several_inputs_and_outputs(asked: TestClient):
    rows = rows_of("pair", 4, seed=6)
    sent = [
        tensor("kind", [4], "INT64", data=rows["kind"].tolist()),
        tensor("columns", [4, 3], "FP32", data=rows["columns"].ravel().tolist()),
    ]
    found = ask(asked, PAIR, *sent, outputs=[{"name": "energy"}, {"name": "norm_statistics"}]).json()["outputs"]
    assert [(item["name"], item["shape"]) for item in found] == [("energy", [4, 1]), ("norm_statistics", [4, 1, 2])]


def test_half_precision_goes_in_and_comes_out(asked: TestClient):
    rows = rows_of("half", 2, seed=6)["columns"]
    sent = binary("columns", [2, 3], "FP16", rows.nbytes)
    (scores, *_) = ask_binary(asked, "/v2/models/half/infer", rows.tobytes(), sent).json()["outputs"]
    assert (scores["name"], scores["datatype"], scores["shape"]) == ("scores", "FP16", [2, 2])
    typed = tensor("columns", [2, 3], "FP16", data=rows.ravel().tolist())
    assert outputs(ask(asked, "/v2/models/half/infer", typed))["scores"] == scores["data"]


def test_a_file_of_one_row_answers_many(asked: TestClient):
    rows = rows_of("patches", 5, seed=7)["image"]
    together = outputs(ask(asked, "/v2/models/patches/infer", image(rows)))["scores"]
    alone = [outputs(ask(asked, "/v2/models/patches/infer", image(row[None])))["scores"] for row in rows]
    assert together == pytest.approx(np.ravel(alone), abs=1e-6)


def test_predict_answers_nested_lists(asked: TestClient):
    rows = rows_of("image", 2, seed=8)["image"]
    answer = asked.post("/predict", json={"inputs": rows.tolist(), "norm_stats": True, "model": "image"}).json()
    assert [item["label"] for item in answer["predictions"]] == [LABELS[best] for best in expected(rows).argmax(1)]
    assert [layer["name"] for layer in answer["predictions"][0]["norm_stats"]] == ["bn1", "bn2"]


def test_what_flows_into_each_norm_is_counted(networks: list[Artifact]):
    settings = settings_for(networks[0])
    with TestClient(make_app(settings, ModelRegistry(Engine(settings)))) as client:
        rows = rows_of("image", 40, seed=9)["image"]
        for start in range(0, 40, 8):
            assert ask(client, IMAGE, image(rows[start : start + 8])).status_code == 200
        first = client.get("/norm-stats").json()["layers"][0]
    assert (first["kind"], first["unit"], first["live"]["tokens"]) == ("batch_norm", "pixel", 160)
    assert len(first["running"]["mean"]) == 6 == len(first["live"]["features"]["mean"])
    convolved = make("image").conv1.weight.detach().numpy()  # the first BatchNorm sees the convolution alone
    padded = np.pad(rows, ((0, 0), (0, 0), (1, 1), (1, 1))).astype(np.float64)
    seen = np.array(
        [np.einsum("rchw,ochw->ro", padded[:, :, y : y + 3, x : x + 3], convolved) for y in (0, 4) for x in (0, 4)]
    )
    np.testing.assert_allclose(first["live"]["features"]["mean"], seen.mean((0, 1)), atol=1e-5)
    np.testing.assert_allclose(first["live"]["features"]["variance"], seen.var((0, 1)), rtol=1e-4)


@pytest.mark.parametrize(
    ("sent", "code", "words"),
    [
        (tensor("image", [1, 1, 8, 7], "FP32", data=[0.0] * 56), "invalid_tensor", "shape [1, 8, 7] in each row"),
        (tensor("image", [1, 1, 8, 8], "INT64", data=[0] * 64), "invalid_datatype", "expected FP32"),
        (tensor("image", [1, 1, 8, 8], "FP32", data=[1e39] * 64), "not_finite", "finite"),
        (tensor("image", [], "FP32", data=[1.0]), "invalid_tensor", "expected float32 [rows, 1, 8, 8]"),
        (tensor("image", [0, 1, 8, 8], "FP32", data=[]), "no_inputs", "is empty"),
        (tensor("image", [9, 1, 8, 8], "FP32", data=[0.0] * 576), "too_many_rows", "at most 8"),
        (tensor("picture", [1], "FP32", data=[0.0]), "unknown_input", "expected image"),
    ],
)
def test_bad_tensors_are_refused(sent: dict[str, Any], code: str, words: str, asked: TestClient):
    response = ask(asked, IMAGE, sent)
    assert response.status_code == (413 if code == "too_many_rows" else 400)
    assert response.json()["code"] == code and words in response.json()["error"]


@pytest.mark.parametrize("shape", [[1] * 100, [1, 0, 2**62], [1, 0, 2**70]])
def test_shapes_that_no_tensor_can_have_are_refused(shape: list[int], asked: TestClient):
    size = 4 * int(np.prod(shape[:2]))
    for sent, tail in ((tensor("image", shape, "FP32", data=[0.5] * (size // 4)), b""), (None, bytes(size))):
        wrong = binary("image", shape, "FP32", size) if sent is None else sent
        response = ask_binary(asked, IMAGE, tail, wrong)
        assert (response.status_code, response.json()["code"]) == (400, "invalid_tensor"), response.text
        assert "no tensor can have that" in response.json()["error"]


def test_unlike_numbers_of_rows_and_missing_inputs_are_refused(asked: TestClient):
    columns = tensor("columns", [2, 3], "FP32", data=[0.0] * 6)
    response = ask(asked, PAIR, columns, tensor("kind", [1], "INT64", data=[0]))
    assert response.status_code == 400 and "columns 2, kind 1" in response.json()["error"]
    assert "kind is missing" in ask(asked, PAIR, columns).json()["error"]
    assert "several inputs (columns, kind)" in asked.post("/embed", json={"inputs": [[0, 0, 0]], "model": "pair"}).text


@pytest.mark.parametrize(
    "value", ["a", ["a"], [1], [[1, 2]], [[[[True] * 8] * 8]], [[[["a"] * 8] * 8]], [[[1], [1, 2]]]]
)
def test_bad_lists_are_refused(value: Any, asked: TestClient):
    response = asked.post("/predict", json={"inputs": value, "model": "image"})
    assert response.status_code == 400 and "expected" in response.json()["error"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/tokenize", {"inputs": ["a"]}),
        ("/similarity", {"source_sentence": "a", "sentences": ["b"]}),
        ("/v1/embeddings", {"input": "a", "model": "image"}),
        ("/rerank", {"query": "a", "documents": ["b"]}),
    ],
)
def test_what_is_for_texts_is_refused(path: str, body: dict[str, Any], asked: TestClient):
    assert asked.post(path, json=body).status_code == 400


def test_the_example_is_one_that_the_model_answers(networks: list[Artifact], asked: TestClient):
    path, body = example(networks[0].manifest)
    assert (path, asked.post(path, content=body).status_code) == ("/predict", 200)
    assert example(networks[1].manifest) == ("/v2/models/pair/infer", "@request.json")


@pytest.mark.parametrize(
    ("row_seconds", "slower", "rows"),
    [(0.01, 0.0, 16), (0.01, 0.005, 1), (0.5, 0.0, 1), (0.0001, 0.0, 256)],
)
def test_the_largest_batch_that_is_as_fast_as_any_is_taken(
    row_seconds: float, slower: float, rows: int, networks: list[Artifact], monkeypatch: pytest.MonkeyPatch
):
    graph = TensorGraph(networks[0])
    monkeypatch.setattr(TensorGraph, "seconds", lambda _, rows: rows * (row_seconds + slower * (rows > 1)))
    assert graph.fastest_rows(0.2) == rows
    assert TensorGraph(networks[2]).fastest_rows(0.2) == 1  # whose rows run alone
