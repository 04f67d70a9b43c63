"""The verdict of the embedded model, over traffic of known kinds."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from starlette.testclient import TestClient

from runtime.drift.detector import MIN_REQUESTS
from runtime.statistics.deep import DeepState
from runtime.statistics.state import NormState
from runtime.statistics.traffic import Traffic
from service.inference.engine import Engine
from service.inference.registry import ModelRegistry
from service.norm_stats.verdict import verdict as decide
from service.settings import Settings
from tests.apps import make_app

Answer = Callable[..., dict]


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(Settings(device="cpu"))


@pytest.fixture
def answer(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Answer:
    """What /norm-stats says after this traffic."""

    def ask(traffic: Traffic, deep: DeepState | None = None) -> dict:
        nothing = engine.collector.recorder.window(None)
        state = replace(nothing.state, requests=int(traffic.counts.sum()), traffic=traffic)
        recorded = replace(nothing, state=state, everything=state, deep=deep or nothing.deep)
        monkeypatch.setattr(engine.collector.recorder, "window", lambda _: recorded)
        return TestClient(make_app(Settings(), ModelRegistry(engine))).get("/norm-stats").json()

    return ask


def traffic(engine: Engine, counts: np.ndarray, shift: np.ndarray | float = 0.0) -> Traffic:
    """Requests that lie at their class's mean, all moved by `shift` sigma."""
    reference = engine.baseline.reference
    assert reference is not None
    totals = counts @ reference.class_means + counts.sum() * shift * np.sqrt(reference.variance)
    by_class = np.stack([counts * reference.class_means[:, -1], 0.9 * counts])
    return Traffic(counts, totals, by_class)


@pytest.fixture
def usual(engine: Engine) -> np.ndarray:
    assert engine.baseline.reference is not None
    return engine.baseline.reference.counts.astype(np.int64)


def test_usual_traffic_is_ok(engine: Engine, answer: Answer, usual: np.ndarray):
    found = answer(traffic(engine, usual))
    verdict = found["verdict"]
    would_show = verdict.pop("would_show")
    assert 0.02 < would_show < 0.1
    assert verdict == {
        "state": "ok",
        "sentence": "3,000 requests look like the baseline at every layer. From "
        f"{math.ceil(100 * would_show)} % of unlike requests on, it would have shown.",
        "since": None,
        "first_layer": None,
        "features": [],
        "unlike": pytest.approx(0, abs=1e-6),
        "estimated_accuracy": pytest.approx(0.9),
        "effective_requests": 3000,
        "most_repeated": 0,
        "classes": [],
        "since_between": None,
        "until": None,
        "alert": False,
        "episodes": [],
        "strongest": None,
    }
    assert {layer["drift"]["state"] for layer in found["layers"]} == {"ok"}
    assert all(layer["drift"]["score"] < layer["drift"]["threshold"] for layer in found["layers"])


@pytest.mark.parametrize(("requests", "words"), [(0, "0 requests are"), (1, "1 request is"), (2, "2 requests are")])
def test_too_few_requests_are_counted_in_words(
    engine: Engine, answer: Answer, usual: np.ndarray, requests: int, words: str
):
    counts = np.zeros_like(usual)
    counts[0] = requests
    verdict = answer(traffic(engine, counts))["verdict"]
    assert verdict["state"] == "insufficient_data"
    assert verdict["sentence"] == f"{words} too few to judge, at least {MIN_REQUESTS} are needed."


def test_one_topic_is_a_mix_shift(engine: Engine, answer: Answer, usual: np.ndarray):
    counts = np.zeros_like(usual)
    counts[[3, 40]] = 60
    found = answer(traffic(engine, counts))["verdict"]
    assert (found["state"], found["first_layer"]) == ("mix_shift", None)
    assert found["sentence"].startswith("120 requests have their topics mixed otherwise")


def test_drift_names_where_it_shows_first(engine: Engine, answer: Answer, usual: np.ndarray):
    shift = np.zeros(2 * len(engine.manifest.layers) + 5)
    shift[6:10] = [0.8, -0.8, 0.8, -0.8]
    found = answer(traffic(engine, usual, shift))
    assert found["verdict"]["state"] == "drift"
    assert found["verdict"]["first_layer"] == "blocks.0.feed_forward.norm"
    assert "first at blocks.0.feed_forward.norm, by " in found["verdict"]["sentence"]
    states = [layer["drift"]["state"] for layer in found["layers"]]
    assert states[:2] == ["ok", "ok"] and states[2:4] == ["drift", "drift"]


def test_drift_of_the_output_alone_is_named(engine: Engine, answer: Answer, usual: np.ndarray):
    shift = np.zeros(2 * len(engine.manifest.layers) + 5)
    shift[-3:-1] = [1.0, -1.0]
    found = answer(traffic(engine, usual, shift))
    assert found["verdict"]["first_layer"] == "output"
    assert found["output"]["drift"]["state"] == "drift"
    assert found["output"]["live"]["surprise"] > found["output"]["baseline"]["surprise"]


def test_drift_names_the_features_that_moved(engine: Engine, answer: Answer, usual: np.ndarray):
    usual_deep = engine.baseline.deep
    assert usual_deep is not None
    moved = usual_deep.outputs.mean.copy()
    moved[2 * 160 + 17] -= 3 * usual_deep.outputs.std[2 * 160 + 17]  # the third layer's feature 17
    shift = np.zeros(2 * len(engine.manifest.layers) + 5)
    shift[6:8] = [0.8, -0.8]
    deep = replace(usual_deep, outputs=replace(usual_deep.outputs, mean=moved))
    found = answer(traffic(engine, usual, shift), deep)["verdict"]
    assert found["first_layer"] == "blocks.0.feed_forward.norm"
    assert found["features"][0]["feature"] == 17
    assert found["features"][0]["shift"] == pytest.approx(-3)
    too_few = replace(deep, requests=29)
    assert answer(traffic(engine, usual, shift), too_few)["verdict"]["features"] == []


def test_drift_of_the_input_is_named(engine: Engine, answer: Answer, usual: np.ndarray):
    shift = np.zeros(2 * len(engine.manifest.layers) + 5)
    shift[:2] = [0.6, -0.6]
    found = answer(traffic(engine, usual, shift))
    assert (found["verdict"]["first_layer"], found["verdict"]["features"]) == ("input", [])
    assert found["input"]["drift"]["state"] == "drift"
    assert found["input"]["live"]["tokens"] > found["input"]["baseline"]["tokens"]
    assert found["input"]["live"]["token_length"] < found["input"]["baseline"]["token_length"]


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
    assert "at least 60, and 4 of every class" in found["verdict"]["sentence"]
    assert found["output"] is None and found["input"] is None


@pytest.mark.parametrize(("task", "words"), [("classification", "4 of every class"), ("embedding", "at least 300")])
def test_a_baseline_that_cannot_judge_says_what_would(engine: Engine, task: str, words: str):
    manifest = engine.manifest.model_copy(update={"task": task})
    found = decide(manifest, engine.baseline, NormState.empty(manifest.layers), None, [], [])
    assert found.state == "insufficient_data"
    assert words in found.sentence


def test_questions_from_elsewhere_are_drift():
    """Over HTTP, through the graph: sentences that are no chat-bot questions."""
    elsewhere = [f"{animal} {verb} {thing}" for animal in ANIMALS for verb in VERBS for thing in THINGS]
    with TestClient(make_app(Settings(), ModelRegistry(Engine(Settings(device="cpu"))))) as client:
        client.post("/predict", json={"inputs": elsewhere}).raise_for_status()
        found = client.get("/norm-stats", params={"window": "5m"}).json()
    assert found["window"]["requests"] == len(elsewhere)
    assert found["verdict"]["state"] == "drift"
    assert any(layer["drift"]["psi"] > 0.1 for layer in found["layers"])


ANIMALS = ("the heron", "a migrating eel", "the brown bear", "every beetle")
VERBS = ("was described by linnaeus in", "is rarely seen near", "feeds on roots along")
THINGS = ("the upper danube", "volcanic soil", "1758", "the coast of norway", "old growth forests")
