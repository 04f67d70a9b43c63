from collections.abc import Iterator

import numpy as np
import pytest
from starlette.testclient import TestClient

from runtime.drift.detector import MIN_REQUESTS
from runtime.statistics.traffic import Traffic
from runtime.statistics.windows import Span
from service.inference.engine import Engine
from service.norm_stats.history import MOST, slices
from service.norm_stats.interface import parse_time
from service.settings import Settings
from tests.conftest import serve
from tests.helpers import TEXTS

MIDNIGHT = 1_800_000_000 - 1_800_000_000 % 86_400


def traffic(requests: int) -> Traffic:
    return Traffic(np.array([requests]), np.array([float(requests)]))


def buckets(requests: list[int], seconds: int = 10) -> list[tuple[int, Traffic]]:
    return [(MIDNIGHT // seconds + place, traffic(count)) for place, count in enumerate(requests) if count]


@pytest.mark.parametrize(
    ("width", "seconds", "requests", "length"),
    [
        (300, 10, 50, 10),  # busy: as fine as it is kept
        (3600, 10, 50, 60),  # no more than 60 slices
        (3600, 10, 1, 300),  # 30 requests take five minutes
        (3600, 10, 0.05, 600),  # hardly any traffic: coarse, but still several slices
        (86_400, 300, 50, 1800),
    ],
)
def test_slices_are_as_short_as_can_be_judged(width: int, seconds: int, requests: float, length: int):
    every = max(1, round(1 / requests)) if requests < 1 else 1
    counts = [max(1, int(requests)) if place % every == 0 else 0 for place in range(width // seconds)]
    found, parts = slices(Span(MIDNIGHT, MIDNIGHT + width), seconds, buckets(counts, seconds))
    assert found == length
    assert width / length <= MOST
    assert sum(int(part.traffic.counts.sum()) for part in parts) == sum(counts)
    assert all(part.start % length == 0 for part in parts)


def test_slices_without_traffic_are_left_out():
    counts = [40, 0, 0, 40]
    _, parts = slices(Span(MIDNIGHT, MIDNIGHT + 40), 10, buckets(counts))
    assert [(part.start - MIDNIGHT, int(part.traffic.counts.sum())) for part in parts] == [(0, 40), (30, 40)]


@pytest.fixture
def embedded() -> Engine:
    """The embedded model: its baseline can judge."""
    return Engine(Settings(device="cpu", deep_budget=0))


ODD = [f"balance balance {word} balance balance" for word in range(40)]


@pytest.fixture
def clock(embedded: Engine) -> list[float]:
    """The recorder's clock, to be set; counting begins now."""
    recorder, now = embedded.collector.recorder, [MIDNIGHT + 1.0]
    recorder.clock = lambda: now[0]
    recorder.since = now[0]
    return now


@pytest.fixture
def judged(embedded: Engine) -> Iterator[TestClient]:
    yield from serve(Settings(device="cpu"), embedded)


def ask(client: TestClient, texts: list[str]) -> None:
    for start in range(0, len(texts), 8):
        client.post("/predict", json={"inputs": texts[start : start + 8]}).raise_for_status()


def test_history_judges_every_slice_by_itself(judged: TestClient, embedded: Engine, clock: list[float]):
    ask(judged, TEXTS)
    clock[0] += 60
    ask(judged, TEXTS[:3])
    clock[0] += 60
    ask(judged, ODD)
    answer = judged.get("/norm-stats/history").json()
    assert answer["rows"] == ["input", *embedded.manifest.layer_names, "output", "all layers", "unlikeness"]
    assert [part["requests"] for part in answer["slices"]] == [len(TEXTS), 3, 40]
    assert [parse_time("from", part["from"]) - MIDNIGHT for part in answer["slices"]] == [0, 60, 120]
    first, few, last = answer["slices"]
    assert first["state"] != "insufficient_data" and len(first["departures"]) == len(answer["rows"])
    assert (few["state"], few["departures"]) == ("insufficient_data", None) and few["requests"] < MIN_REQUESTS
    assert last["state"] == "drift" and max(last["departures"]) > 1


def test_history_of_a_slice_agrees_with_its_window(judged: TestClient, clock: list[float]):
    clock[0] += 300
    ask(judged, ODD)
    (part,) = judged.get("/norm-stats/history", params={"window": "5m"}).json()["slices"]
    whole = judged.get("/norm-stats", params={"from": part["from"]}).json()
    assert part["state"] == whole["verdict"]["state"] == "drift"
    lines = [whole["input"], *whole["layers"], whole["output"]]
    for departure, line in zip(part["departures"], lines, strict=False):
        drift = line["drift"]
        assert (departure > 1) == (drift["state"] == "drift")
        if departure > 1:
            assert departure == pytest.approx(drift["score"] / drift["threshold"], abs=1e-3)


def test_history_of_what_is_no_longer_kept_answers_the_span_that_was_asked(judged: TestClient):
    ask(judged, TEXTS)
    body = judged.get("/norm-stats/history", params={"from": "2026-01-01", "to": "2026-01-02"}).json()
    assert (body["from"], body["to"], body["slices"]) == ("2026-01-01T00:00:00+00:00", "2026-01-02T00:00:00+00:00", [])


def test_history_without_traffic_or_reference_is_empty(judged: TestClient, client: TestClient):
    assert judged.get("/norm-stats/history").json()["slices"] == []
    ask(client, TEXTS)
    assert client.get("/norm-stats/history").json()["slices"] == []
    response = judged.get("/norm-stats/history", params={"window": "2h"})
    assert (response.status_code, response.json()["code"]) == (400, "invalid_window")
