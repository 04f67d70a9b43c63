import numpy as np
import pytest
from starlette.testclient import TestClient

from service.api.v2.outputs import OUTPUTS, best
from tests.helpers import LABELS
from tests.service.api.v2.asking import INFER, ask, outputs, text


def test_classification_gives_the_best_classes(client: TestClient):
    sent = {"name": "logits", "parameters": {"classification": 2}}
    response = ask(client, INFER, text("hi", "snow"), outputs=[sent])
    (output,) = response.json()["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [2, 2])
    logits = np.reshape(outputs(ask(client, INFER, text("hi", "snow")))["logits"], (2, 3))
    order = np.argsort(-logits, axis=1)[:, :2]
    found = [entry.split(":") for entry in output["data"]]
    assert [int(index) for _, index, _ in found] == order.ravel().tolist()
    assert [label for _, _, label in found] == [LABELS[i] for i in order.ravel()]
    assert [float(value) for value, _, _ in found] == pytest.approx(
        np.take_along_axis(logits, order, 1).ravel().tolist(), abs=1e-5
    )


def test_more_classes_than_there_are_give_all(client: TestClient):
    sent = {"name": "probabilities", "parameters": {"classification": 99}}
    assert ask(client, INFER, text("hi"), outputs=[sent]).json()["outputs"][0]["shape"] == [1, 3]


def test_best_classes_are_in_order_with_ties_by_index():
    assert best(np.array([[1, 3, 3]], dtype=np.float32), ["a", "b", "c"], 3) == [
        "3.000000:1:b",
        "3.000000:2:c",
        "1.000000:0:a",
    ]


def test_outputs_come_in_the_order_asked_for(client: TestClient):
    names = list(OUTPUTS["classification"])[::-1]
    assert list(outputs(ask(client, INFER, text("hi"), outputs=[{"name": name} for name in names]))) == names


def test_what_is_not_finite_is_null_in_json(client: TestClient, monkeypatch: pytest.MonkeyPatch):
    known = OUTPUTS["classification"]
    values = known["embedding"]._replace(values=lambda *_: np.array([[np.nan, np.inf]], dtype=np.float32))
    monkeypatch.setitem(known, "embedding", values)
    response = ask(client, INFER, text("hi"), outputs=[{"name": "embedding"}])
    assert outputs(response)["embedding"] == [None, None]
