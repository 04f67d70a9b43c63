"""What is asked beside predictions: when, and that a bad answer is noticed."""

import http.client
from itertools import islice

import pytest

from benchmarks.tails import beside
from benchmarks.tails.beside import Ask, ask, asked, loads, schedule


class Response:
    def __init__(self, status: int) -> None:
        self.status = status

    def read(self) -> bytes:
        return b"{}"


@pytest.mark.parametrize("each", [*beside.SCRAPES, beside.HISTORY, loads("intents")])
def test_what_is_written_is_parsed(each: Ask) -> None:
    assert Ask.parse(str(each)) == each


def test_every_question_comes_once_a_period_and_its_paths_in_turn() -> None:
    asks = [Ask(1.0, "GET", ("/a",)), Ask(2.0, "POST", ("/b", "/c"))]
    found = list(schedule(asks, 5.0))
    assert [path for _, method, path in found if method == "POST"] == ["/b", "/c"]
    assert [round(due, 3) for due, _, path in found if path == "/a"] == [0.333, 1.333, 2.333, 3.333, 4.333]
    assert [due for due, _, _ in found] == sorted(due for due, _, _ in found)
    assert len(list(islice(schedule(asks, float("inf")), 100))) == 100


def test_a_bad_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http.client.HTTPConnection, "request", lambda *_: None)
    monkeypatch.setattr(http.client.HTTPConnection, "getresponse", lambda _: Response(200))
    ask(1, "GET", "/metrics")
    monkeypatch.setattr(http.client.HTTPConnection, "getresponse", lambda _: Response(404))
    with pytest.raises(http.client.HTTPException, match="404"):
        ask(1, "GET", "/metrics")


def test_a_client_that_ended_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside.sys, "executable", "false")
    monkeypatch.setattr(beside, "STARTING", 0.1)
    with pytest.raises(RuntimeError, match="ended"), asked(1, beside.SCRAPES):
        pass


def test_nothing_is_asked_where_there_is_nothing_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside.subprocess, "Popen", None)
    with asked(1, ()):
        pass
