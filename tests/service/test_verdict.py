"""The verdict of the embedded model, over traffic of known kinds."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from starlette.testclient import TestClient

from runtime.statistics import NormState, Traffic
from service.app import create_app
from service.engine import Engine
from service.settings import Settings

Answer = Callable[[Traffic], dict]


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(Settings(device="cpu"))


@pytest.fixture
def answer(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Answer:
    """What /norm-stats says after this traffic."""

    def ask(traffic: Traffic) -> dict:
        state = replace(NormState.empty(engine.manifest.layers), traffic=traffic)
        monkeypatch.setattr(engine.recorder, "state", lambda: state)
        return TestClient(create_app(Settings(), engine)).get("/norm-stats").json()

    return ask


def traffic(engine: Engine, counts: np.ndarray, shift: np.ndarray | float = 0.0) -> Traffic:
    """Requests that lie at their class's mean, all moved by `shift` sigma."""
    reference = engine.baseline.reference
    assert reference is not None
    totals = counts @ reference.class_means + counts.sum() * shift * np.sqrt(reference.variance)
    return Traffic(counts, totals)


@pytest.fixture
def usual(engine: Engine) -> np.ndarray:
    assert engine.baseline.reference is not None
    return engine.baseline.reference.counts.astype(np.int64)


def test_usual_traffic_is_ok(engine: Engine, answer: Answer, usual: np.ndarray):
    found = answer(traffic(engine, usual))
    assert found["verdict"] == {
        "state": "ok",
        "sentence": "3,000 requests look like the validation data at every layer.",
        "since": None,
        "first_layer": None,
    }
    assert {layer["drift"]["state"] for layer in found["layers"]} == {"ok"}
    assert all(layer["drift"]["score"] < layer["drift"]["threshold"] for layer in found["layers"])


def test_one_topic_is_a_mix_shift(engine: Engine, answer: Answer, usual: np.ndarray):
    counts = np.zeros_like(usual)
    counts[[3, 40]] = 60
    found = answer(traffic(engine, counts))["verdict"]
    assert (found["state"], found["first_layer"]) == ("mix_shift", None)
    assert found["sentence"].startswith("120 requests have their topics mixed otherwise")


def test_drift_names_where_it_shows_first(engine: Engine, answer: Answer, usual: np.ndarray):
    shift = np.zeros(2 * len(engine.manifest.layers) + 2)
    shift[4:8] = [0.8, -0.8, 0.8, -0.8]
    found = answer(traffic(engine, usual, shift))
    assert found["verdict"]["state"] == "drift"
    assert found["verdict"]["first_layer"] == "blocks.0.feed_forward.norm"
    assert "first at blocks.0.feed_forward.norm, by " in found["verdict"]["sentence"]
    states = [layer["drift"]["state"] for layer in found["layers"]]
    assert states[:2] == ["ok", "ok"] and states[2:4] == ["drift", "drift"]


def test_drift_of_the_output_alone_is_named(engine: Engine, answer: Answer, usual: np.ndarray):
    shift = np.zeros(2 * len(engine.manifest.layers) + 2)
    shift[-2:] = [1.0, -1.0]
    found = answer(traffic(engine, usual, shift))
    assert found["verdict"]["first_layer"] == "output"
    assert found["output"]["drift"]["state"] == "drift"
    assert found["output"]["live"]["surprise"] > found["output"]["baseline"]["surprise"]


def test_few_requests_are_not_judged(engine: Engine, answer: Answer, usual: np.ndarray):
    counts = np.zeros_like(usual)
    counts[0] = 29
    for few in (traffic(engine, counts), Traffic.nothing()):
        found = answer(few)
        assert found["verdict"]["state"] == "insufficient_data"
        assert "at least 30 are needed" in found["verdict"]["sentence"]
        assert found["layers"][0]["drift"] == {"state": "insufficient_data"}


def test_small_baseline_does_not_judge(client: TestClient):
    client.post("/predict", json={"inputs": ["what is my balance"] * 40})
    found = client.get("/norm-stats").json()
    assert found["verdict"]["state"] == "insufficient_data"
    assert "at least 100, and 4 of every class" in found["verdict"]["sentence"]
    assert found["output"] is None


def test_questions_from_elsewhere_are_drift():
    """Over HTTP, through the graph: sentences that are no chat-bot questions."""
    elsewhere = [f"{animal} {verb} {thing}" for animal in ANIMALS for verb in VERBS for thing in THINGS]
    with TestClient(create_app(Settings(), Engine(Settings(device="cpu")))) as client:
        client.post("/predict", json={"inputs": elsewhere}).raise_for_status()
        found = client.get("/norm-stats", params={"window": "5m"}).json()
    assert found["window"]["requests"] == len(elsewhere)
    assert found["verdict"]["state"] == "drift"
    assert any(layer["drift"]["psi"] > 0.1 for layer in found["layers"])


ANIMALS = ("the heron", "a migrating eel", "the brown bear", "every beetle")
VERBS = ("was described by linnaeus in", "is rarely seen near", "feeds on roots along")
THINGS = ("the upper danube", "volcanic soil", "1758", "the coast of norway", "old growth forests")
