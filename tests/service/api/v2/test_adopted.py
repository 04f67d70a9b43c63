"""What adopted encoders take and give over the protocol, by their tasks."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from runtime.artifact import Artifact
from runtime.graph.encoder import Encoder
from runtime.graph.texts import make_input_encoder
from service.inference.engine import Engine
from tests.adopted import make_pairs, make_texts
from tests.conftest import serve, settings_for
from tests.service.api.v2.asking import ask, outputs, tensor, text

TASKS = {"embedding": "letters", "rerank": "order", "multilabel": "subjects"}
every = pytest.mark.parametrize("kind", TASKS)
rerank = pytest.mark.parametrize("kind", ["rerank"])


@pytest.fixture
def artifact(kind: str, request: pytest.FixtureRequest) -> Artifact:
    return request.getfixturevalue(f"{kind}_artifact")


@pytest.fixture
def service(artifact: Artifact) -> Iterator[TestClient]:
    """A service of the artifact of this kind that has answered nothing yet."""
    settings = settings_for(artifact)
    yield from serve(settings, Engine(settings))


OUTPUTS = {
    "embedding": {"embedding": [32], "norm_statistics": [5, 2]},
    "rerank": {"logits": [1], "score": [], "embedding": [32], "norm_statistics": [5, 2]},
    "multilabel": {
        "logits": [3],
        "probabilities": [3],
        "label": [],
        "score": [],
        "embedding": [32],
        "norm_statistics": [5, 2],
    },
}


def inputs_of(kind: str, rows: int = 3) -> tuple[list[Any], dict[str, Any]]:
    """Inputs, and the tensor that holds them."""
    if kind != "rerank":
        texts = make_texts(rows, seed=9)
        return texts, text(*texts)
    pairs = make_pairs(rows)
    return pairs, tensor("text", [rows, 2], "BYTES", data=[given for pair in pairs for given in pair])


@every
def test_metadata_is_what_infer_takes_and_gives(kind: str, service: TestClient):
    path, (_, sent) = f"/v2/models/{TASKS[kind]}", inputs_of(kind)
    metadata = service.get(path).json()
    assert metadata["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1, 2] if kind == "rerank" else [-1]}]
    assert {output["name"]: output["shape"][1:] for output in metadata["outputs"]} == OUTPUTS[kind]
    names = [{"name": name} for name in OUTPUTS[kind]]
    found = ask(service, f"{path}/infer", sent, outputs=names).json()["outputs"]
    assert {output["name"]: output["shape"] for output in found} == {n: [3, *dims] for n, dims in OUTPUTS[kind].items()}
    unasked = ask(service, f"{path}/infer", sent).json()["outputs"]
    assert [output["name"] for output in unasked] == [name for name in OUTPUTS[kind] if name != "norm_statistics"]


@every
def test_outputs_are_those_of_the_encoder(kind: str, service: TestClient, artifact: Artifact):
    inputs, sent = inputs_of(kind)
    found = outputs(ask(service, f"/v2/models/{TASKS[kind]}/infer", sent))
    batch = Encoder(artifact).run([item.tokens for item in make_input_encoder(artifact).encode(inputs)])
    np.testing.assert_allclose(np.reshape(found["embedding"], (3, 32)), batch.embedding, rtol=1e-5, atol=1e-5)
    if kind != "embedding":
        scores = 1 / (1 + np.exp(-batch.logits.astype(np.float64)))
        np.testing.assert_allclose(found["logits"], batch.logits.ravel(), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found["score"], scores.max(1), atol=1e-6)


@rerank
@pytest.mark.parametrize("shape", [[2], [2, 1], [1, 2, 1], [2, 3], []], ids=str)
def test_pairs_of_another_shape_are_refused(shape: list[int], service: TestClient):
    sent = tensor("text", shape, "BYTES", data=["a"] * int(np.prod(shape)))
    response = ask(service, "/v2/models/order/infer", sent)
    assert response.status_code == 400
    assert response.json()["code"] == "invalid_tensor" and "text" in response.json()["error"]
