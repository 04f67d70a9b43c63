"""The verdict of the embedded model, over traffic of known kinds."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from runtime.drift.detector import MIN_REQUESTS
from runtime.statistics.deep import DeepState
from runtime.statistics.traffic import Traffic
from service.inference.engine import Engine
from service.inference.registry import ModelRegistry
from service.norm_stats.interface import parse_time
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
    assert "at least 100, and 4 of every class" in found["verdict"]["sentence"]
    assert found["output"] is None and found["input"] is None


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


@pytest.fixture
def recorder() -> Iterator[tuple[TestClient, list[float]]]:
    """A service whose clock can be set, and which has answered nothing yet."""
    engine, now = Engine(Settings(device="cpu")), [1.8e9 + 1]
    recorder = engine.collector.recorder
    recorder.clock = lambda: now[0]
    recorder.since = now[0]
    recorder._begin(now[0])
    with TestClient(make_app(Settings(), ModelRegistry(engine))) as client:
        yield client, now


@pytest.fixture
def usual_questions() -> list[str]:
    found: list[str] = json.loads(Path("examples/ordinary.json").read_text())["inputs"]
    return found * 4


def elsewhere(count: int) -> list[str]:
    """Sentences that are no chat-bot questions, all unlike."""
    sentences = product(["", "perhaps ", "then ", "in spring ", "at dawn ", "they say "], ANIMALS, VERBS, THINGS)
    return [f"{first}{animal} {verb} {thing}" for first, animal, verb, thing in sentences][:count]


def ask(client: TestClient, texts: list[str]) -> None:
    for start in range(0, len(texts), 100):
        client.post("/predict", json={"inputs": texts[start : start + 100]}).raise_for_status()


def test_the_present_is_the_last_hour_or_the_last_thousand_requests(recorder: tuple[TestClient, list[float]]):
    client, now = recorder
    for count, later in ((300, 7200), (900, 3600), (200, 1800)):
        ask(client, (elsewhere(300) * 3)[:count])
        now[0] += later
    assert client.get("/norm-stats").json()["window"]["requests"] == 1100
    assert client.get("/norm-stats", params={"window": "auto"}).json()["window"]["requests"] == 1100
    assert client.get("/norm-stats/embeddings.norm").json()["window"]["requests"] == 1100
    assert client.get("/norm-stats", params={"window": "all"}).json()["window"]["requests"] == 1400
    assert client.get("/norm-stats/state").json()["state"]["requests"] == 1400


def test_drift_that_is_over_is_told_with_its_time(recorder: tuple[TestClient, list[float]], usual_questions: list[str]):
    client, now = recorder
    began = now[0]
    for number in range(60):
        texts = elsewhere(60) if 20 <= number < 30 else usual_questions[number * 40 % 300 :][:40]
        ask(client, texts)
        now[0] += 300
        if number == 25:
            during = client.get("/norm-stats", params={"window": "5m"}).json()["verdict"]
    assert (during["state"], during["alert"], during["until"]) == ("drift", True, None)
    assert abs(parse_time("since", during["since"]) - began - 20 * 300) <= 300
    after = client.get("/norm-stats", params={"window": "5m"}).json()["verdict"]
    assert (after["state"], after["alert"]) != ("drift", True)
    (drift,) = [each for each in after["episodes"] if each["state"] == "drift"]
    assert abs(parse_time("from", drift["from"]) - began - 20 * 300) <= 300
    assert abs(parse_time("to", drift["to"]) - began - 30 * 300) <= 300
    assert f"There was drift from {drift['from'][11:16]} to {drift['to'][11:16]} UTC." in after["sentence"]


def test_one_hot_input_is_told_as_what_it_is(recorder: tuple[TestClient, list[float]]):
    client, _ = recorder
    ask(client, elsewhere(60) + ["what is my balance"] * 140)
    verdict = client.get("/norm-stats").json()["verdict"]
    assert verdict["state"] == "insufficient_data"
    assert verdict["most_repeated"] == pytest.approx(0.7, abs=0.02)
    assert verdict["effective_requests"] == pytest.approx(200**2 / (140**2 + 60), rel=0.05)
    assert verdict["sentence"].startswith("200 requests say no more than 2 unlike ones, they repeat each other")
    assert verdict["sentence"].endswith("One input makes up 70% of them.")


def test_unlike_requests_are_told_with_their_classes(recorder: tuple[TestClient, list[float]]):
    client, _ = recorder
    ask(client, elsewhere(100))
    answer = client.get("/norm-stats").json()
    verdict = answer["verdict"]
    assert verdict["state"] == "drift" and verdict["unlike"] > 0.5 and verdict["estimated_accuracy"] is None
    assert "most of them are unlike it, first at" in verdict["sentence"]
    told = verdict["classes"]
    assert 1 <= len(told) <= 3 and {each["name"] for each in told} <= set(client.get("/model").json()["labels"])
    assert all(each["requests"] >= 1 and 0 < each["unlike"] <= 1 for each in told)
    assert answer["unlikeness"]["drift"]["state"] == "drift"
    assert answer["unlikeness"]["live"]["average"] > answer["unlikeness"]["baseline"]["average"]


def test_a_prediction_says_how_unlike_it_is(recorder: tuple[TestClient, list[float]]):
    client, _ = recorder
    body = {"inputs": ["what is my account balance", "the heron feeds on volcanic soil"], "norm_stats": True}
    usual, odd = client.post("/predict", json=body).json()["predictions"]
    assert 0 <= usual["percentile"] < 60 and 95 < odd["percentile"] <= 100
    assert "percentile" not in client.post("/predict", json={"inputs": ["hello"]}).json()["predictions"][0]


def test_no_live_baseline_gives_a_verdict_where_there_is_none(client: TestClient):
    for _ in range(60):
        client.post("/predict", json={"inputs": ["what is my balance"] * 2}).raise_for_status()
    answer = client.post("/norm-stats/baseline")
    assert (answer.status_code, answer.json()["code"]) == (400, "no_verdict")
