from datetime import UTC, datetime

import pytest
from starlette.testclient import TestClient

from runtime.errors import InvalidInput
from runtime.statistics.windows import Span
from service.inference.engine import Engine
from service.norm_stats.interface import parse_window
from service.schemas.base import iso

NOW = datetime(2026, 1, 31, 14, 5, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ((None, None, None), None),
        (("all", None, None), None),
        (("5m", None, None), Span(NOW - 300, NOW)),
        (("1h", None, None), Span(NOW - 3600, NOW)),
        (("24h", None, None), Span(NOW - 86400, NOW)),
        ((None, "2026-01-31T14:00:00Z", None), Span(NOW - 300, NOW)),
        ((None, "2026-01-31T14:00:00", "2026-01-31T15:01:00+01:00"), Span(NOW - 300, NOW - 240)),
        ((None, "2026-01-31T15:00:00 01:00", None), Span(NOW - 300, NOW)),
        ((None, str(NOW - 10.5), str(NOW)), Span(NOW - 10.5, NOW)),
        ((None, str(NOW - 10), str(NOW + 900)), Span(NOW - 10, NOW)),
    ],
)
def test_windows_that_can_be_asked_for(asked: tuple[str | None, ...], expected: Span | None):
    assert parse_window(*asked, NOW) == expected


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (("7m", None, None), "expected one of auto, 5m, 1h, 24h, all"),
        (("", None, None), "expected one of"),
        (("5m", "0", None), "one or the other"),
        ((None, None, "5"), "to is given without from"),
        ((None, "yesterday", None), "from is 'yesterday', expected ISO 8601"),
        ((None, "nan", None), "expected a time from 1970 on"),
        ((None, "1e300", None), "expected a time from 1970 on"),
        ((None, "-5", None), "expected a time from 1970 on"),
        ((None, "0001-01-01T00:00:00+14:00", "0001-01-01T00:00:10+14:00"), "expected a time from 1970 on"),
        ((None, str(NOW), "9999-12-31T23:59:59Z"), "before the year 5138"),
        ((None, str(NOW), str(NOW)), "is not before"),
        ((None, str(NOW + 60), None), "is not before"),
    ],
)
def test_unusable_windows_are_refused(asked: tuple[str | None, ...], words: str):
    with pytest.raises(InvalidInput, match=words):
        parse_window(*asked, NOW)


def test_answer_covers_the_window_that_was_asked_for(client: TestClient, text_engine: Engine):
    now = [NOW - 7200]
    text_engine.collector.recorder.clock = lambda: now[0]
    client.post("/predict", json={"inputs": ["what is my balance", "will it rain"]})
    now[0] = NOW
    client.post("/predict", json={"inputs": "hi"})
    now[0] += 30
    recent = client.get("/norm-stats", params={"window": "5m"}).json()
    assert recent["window"]["requests"] == 1 and recent["requests"] == 3
    assert recent["layers"][0]["live"]["tokens"] == recent["window"]["tokens"] < recent["tokens"]
    assert recent["window"]["from"] <= iso(NOW - 270) and recent["window"]["to"] >= iso(NOW + 30)
    earlier = {"from": iso(NOW - 7300), "to": iso(NOW - 7000)}
    assert client.get("/norm-stats", params=earlier).json()["window"]["requests"] == 2
    layer = client.get("/norm-stats/embeddings.norm", params={"window": "5m"}).json()
    assert layer["layer"]["live"] == recent["layers"][0]["live"]
    assert client.get("/norm-stats", params={"window": "all"}).json()["window"]["requests"] == 3


def test_unusable_window_is_answered_with_an_error(client: TestClient):
    answer = client.get("/norm-stats", params={"window": "1y"})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_window")


def test_window_before_all_memory_is_empty(client: TestClient):
    client.post("/predict", json={"inputs": "hi"})
    found = client.get("/norm-stats", params={"from": "0", "to": "100"}).json()
    assert found["window"] == {"from": iso(0), "to": iso(100), "requests": 0, "tokens": 0}
    assert found["requests"] == 1
