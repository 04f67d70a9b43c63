"""What the embedded model's service says of the present, of drift that is over, and of repeats."""

import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from service.inference.engine import Engine
from service.inference.registry import ModelRegistry
from service.norm_stats.interface import parse_time
from service.settings import Settings
from tests.apps import make_app
from tests.service.norm_stats.test_verdict import ANIMALS, THINGS, VERBS


@pytest.fixture
def recorder() -> Iterator[tuple[TestClient, list[float]]]:
    """A service whose clock can be set, and which has answered nothing yet."""
    engine, now = Engine(Settings(device="cpu")), [1.8e9 + 1]
    recorder = engine.collector.recorder
    recorder.clock = lambda: now[0]
    recorder.since = now[0]
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
