import io
import re
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from addnorm.commands.stats import Asked, Stats, print_stats
from runtime.console import PlainConsole
from runtime.errors import SettingError, Unavailable

MISSING_KEY = {"error": "An API key is needed.", "code": "missing_api_key"}
UNKNOWN = {"error": "Model 'x' is not loaded, intents is.", "code": "unknown_model"}


@pytest.fixture
def ready() -> list[httpx.Response]:
    """What the service says of itself; nothing unless a test puts it here."""
    return []


@pytest.fixture
def answer(ready: list[httpx.Response], monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the service answers, one after the other: responses, or errors to raise."""
    answers: list[Any] = []

    def send(_: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        beside = request.url.path == "/health/ready"  # nobody waits long for what the table can do without
        assert set(request.extensions["timeout"].values()) == {1 if beside else 5}
        if beside:
            return ready.pop() if ready else httpx.Response(503)
        key = "Bearer a key" if "keyed" in str(request.url) else None
        assert request.headers.get("Authorization") == key
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return httpx.Response(found.status_code, content=found.content)

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", send)
    return answers


def printed(url: str = "http://test", **asked: str) -> str:
    console = PlainConsole(file=io.StringIO(), width=200)
    print_stats(url, Asked(5, **asked), console)
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


@pytest.mark.parametrize("name", ["emb[/x]norm[0]", "[red]"])
def test_layers_are_told_as_they_are_called(name: str, client: TestClient, answer: list[Any]):
    """Also where what they are called is markup."""
    body = client.get("/norm-stats").json()
    body["layers"][0]["name"] = body["verdict"]["sentence"] = name
    answer.append(httpx.Response(200, json=body))
    assert printed().count(name) == 2


def test_table_of_a_batch_norm_can_be_read(feature_client: TestClient, answer: list[Any]):
    answer.append(feature_client.get("/norm-stats"))
    text = printed()
    assert all(name in text for name in ("blocks.0.attention.norm", "blocks.0.feed_forward.norm", "final_norm"))


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (httpx.ConnectError("refused"), "does not answer"),
        (httpx.ReadTimeout("slow"), "does not answer"),
        (httpx.Response(404), "answers 404 Not Found: give the address"),
        (httpx.Response(401, json=MISSING_KEY), "answers 401 Unauthorized: pass --api-key with one of its keys."),
        (httpx.Response(404, json=UNKNOWN), "answers 404 Not Found: Model 'x' is not loaded, intents is."),
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


def test_an_address_with_a_query_is_refused():
    """What follows would be sent before the path."""
    with pytest.raises(SettingError, match=r"leave out what begins with \?, and name a model with --name\.$"):
        printed("http://test/?model=other")


def test_a_model_is_asked_for_by_its_name(client: TestClient, answer: list[Any], monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []
    send = httpx.HTTPTransport.handle_request
    noted = lambda self, request: asked.append(str(request.url)) or send(self, request)  # noqa: E731
    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", noted)
    answer.append(client.get("/norm-stats"))
    printed(name="texts", version="1")
    assert asked[0] == "http://test/norm-stats?model=texts&version=1"


def test_other_models_that_are_served_are_named(client: TestClient, answer: list[Any], ready: list[httpx.Response]):
    body = client.get("/health/ready").json()
    for models, told in (
        (
            {"signals": ["7"], "texts": ["1", "2"]},
            "also served: signals version 7, texts version 2; --name and --version choose",
        ),
        ({"texts": ["1"]}, None),
    ):
        answer.append(client.get("/norm-stats"))
        ready.append(httpx.Response(200, json=body | {"models": models}))
        text = printed()
        assert text.splitlines()[1] == told if told else "also served" not in text
        assert text.splitlines()[-1].startswith("insufficient_data: ")
