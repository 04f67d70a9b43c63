import io
import re
from typing import Any

import httpx
import pytest
from rich.console import Console
from starlette.testclient import TestClient

from addnorm.commands.stats import Stats, print_stats, spread
from runtime.errors import SettingError, Unavailable


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the service answers, one after the other: responses, or errors to raise."""
    answers: list[Any] = []

    def send(_: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        assert set(request.extensions["timeout"].values()) == {5}
        key = "Bearer a key" if "keyed" in str(request.url) else None
        assert request.headers.get("Authorization") == key
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return httpx.Response(found.status_code, content=found.content)

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", send)
    return answers


def printed(url: str = "http://test", api_key: str = "") -> str:
    console = Console(file=io.StringIO(), width=200)
    print_stats(url, 5, console, api_key)
    return console.file.getvalue()


def test_table_has_a_row_for_every_layer(client: TestClient, answer: list[Any]):
    client.post("/predict", json={"inputs": ["hi", "what is my balance"]})
    answer.append(client.get("/norm-stats"))
    text = printed("http://test/")
    body = client.get("/norm-stats").json()
    assert f"texts version 1: 2 requests, {body['tokens']} tokens since" in text
    for layer in body["layers"]:
        (line,) = [line for line in text.splitlines() if layer["name"] in line]
        expected = [layer[state][column] for column in ("mean", "variance") for state in ("live", "baseline")]
        found = [(float(mean), float(std)) for mean, std in re.findall(r"(\S+) ± (\S+)", line)]
        assert found == [(pytest.approx(e["mean"], rel=0.05), pytest.approx(e["std"], rel=0.05)) for e in expected]


def test_key_is_shown_where_one_is_given(client: TestClient, answer: list[Any]):
    answer.append(client.get("/norm-stats"))
    assert "texts version 1" in printed("http://keyed", api_key="a key")


def test_table_of_no_traffic_has_dashes(client: TestClient, answer: list[Any]):
    answer.append(client.get("/norm-stats"))
    text = printed()
    assert "0 requests, 0 tokens" in text
    rows = [line for line in text.splitlines() if ".norm" in line]
    assert len(rows) == 5
    assert all((line.count(" - "), line.count("±")) == (3, 2) for line in rows)


def test_table_of_a_batch_norm_can_be_read(feature_client: TestClient, answer: list[Any]):
    answer.append(feature_client.get("/norm-stats"))
    text = printed()
    assert all(name in text for name in ("blocks.0.attention.norm", "blocks.0.feed_forward.norm", "final_norm"))


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (httpx.ConnectError("refused"), "does not answer"),
        (httpx.ReadTimeout("slow"), "does not answer"),
        (httpx.Response(404), "answers 404 Not Found"),
        (httpx.Response(200, text="<html>"), "something else"),
        (httpx.Response(200, json={"requests": 1}), "something else"),
    ],
    ids=str,
)
def test_what_is_no_service_is_one_sentence(answer: list[Any], found: Any, words: str):
    answer.append(found)
    with pytest.raises(Unavailable, match=words) as caught:
        printed()
    assert "http://test/norm-stats" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_second_address_is_refused():
    with pytest.raises(SettingError, match="is given 2 addresses: name one, or put `merge` before them"):
        Stats(of=["http://a:8000", "http://b:8000"]).cli_cmd()


def test_spread_of_nothing_is_a_dash():
    assert spread(None) == "-"
