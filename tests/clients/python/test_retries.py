"""When the clients ask again: against a server that answers as it is told."""

import socket
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest

from addnorm_client import AddNormAnswerError, AddNormClientError, AddNormConnectionError, AddNormHTTPError, Retries
from addnorm_client.errors import seconds
from tests.clients.python.asking import Ask, Reply, stub

PREDICTED = Reply(200, {"model": "m", "version": "1", "predictions": []})
FULL = Reply(429, {"error": "It is full.", "code": "overloaded"})
STOPPING = Reply(503, {"error": "It stops.", "code": "unavailable"})
LOST = Reply(0)
QUICK = Retries(attempts=3, backoff=0.001)


def predict(client: Any) -> Any:
    return client.predict("hi")


@pytest.mark.parametrize("replies", [[FULL], [STOPPING, FULL], [LOST], [LOST, STOPPING]], ids=len)
def test_refused_and_lost_requests_are_asked_again(ask: Ask, replies: list[Reply]):
    with stub(*replies, PREDICTED) as server:
        assert ask(server.url, predict, retries=QUICK).model == "m"
    assert len(server.asked) == len(replies) + 1
    assert len({str(asked[3]) for asked in server.asked}) == 1


def test_asking_ends_with_the_last_refusal(ask: Ask):
    with stub(FULL) as server, pytest.raises(AddNormHTTPError, match="full") as raised:
        ask(server.url, predict, retries=QUICK)
    assert (raised.value.status, raised.value.code, len(server.asked)) == (429, "overloaded", 3)


@pytest.mark.parametrize("status", [307, 400, 401, 404, 409, 413, 500, 501, 502, 504])
def test_other_answers_are_final(ask: Ask, status: int):
    with stub(Reply(status, {"error": "No.", "code": "no"})) as server, pytest.raises(AddNormHTTPError) as raised:
        ask(server.url, predict, retries=QUICK)
    assert (raised.value.status, raised.value.code, raised.value.message) == (status, "no", "No.")
    assert len(server.asked) == 1


def test_answer_that_asks_for_patience_gets_it(ask: Ask):
    with stub(Reply(429, FULL.body, {"Retry-After": "1"}), PREDICTED) as server:
        started = time.monotonic()
        ask(server.url, predict, retries=QUICK)
        assert time.monotonic() - started >= 1
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("retries", "timeout"), [(Retries(longest=5), None), (Retries(longest=60), 2.0)], ids=["longest", "timeout"]
)
def test_longer_waits_than_allowed_are_not_waited(ask: Ask, retries: Retries, timeout: float | None):
    with stub(Reply(429, FULL.body, {"Retry-After": "7"})) as server, pytest.raises(AddNormHTTPError) as raised:
        ask(server.url, lambda client: client.predict("hi", timeout=timeout), retries=retries)
    assert raised.value.retry_after == 7
    assert len(server.asked) == 1


def test_timeout_is_of_all_attempts_together(ask: Ask):
    with stub(FULL, FULL, PREDICTED) as server:
        ask(server.url, lambda client: client.predict("hi", timeout=5), retries=Retries(backoff=0.1))
    told = [body["timeout"] for _, _, _, body in server.asked]
    assert 5 >= told[0] > told[1] + 0.05 - 1e-3 and told[1] > told[2] + 0.1 - 1e-3


def test_unload_is_not_repeated_after_a_lost_connection(ask: Ask):
    with stub(LOST) as server, pytest.raises(AddNormConnectionError, match="unload"):
        ask(server.url, lambda client: client.unload("m"), retries=QUICK)
    assert len(server.asked) == 1


def test_unload_is_repeated_after_a_refusal(ask: Ask):
    with stub(STOPPING, Reply(200, {})) as server:
        assert ask(server.url, lambda client: client.unload("m"), retries=QUICK) is None
    assert len(server.asked) == 2


def test_readiness_is_asked_once(ask: Ask):
    with stub(STOPPING) as server, pytest.raises(AddNormHTTPError):
        ask(server.url, lambda client: client.ready(), retries=QUICK)
    assert len(server.asked) == 1


def test_nobody_there_is_asked_again_and_said(ask: Ask):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(AddNormConnectionError, match="asked 3 times") as raised:
        ask(f"http://127.0.0.1:{port}", lambda client: client.unload("m"), retries=QUICK)
    assert isinstance(raised.value.__cause__, httpx.ConnectError)


def test_slow_service_is_not_asked_again(ask: Ask):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(AddNormConnectionError, match="asked 1 times"):
            ask(url, predict, retries=QUICK, timeout=0.05)


def test_timeout_is_of_the_connection_too(ask: Ask):
    silent = socket.socket()
    silent.bind(("127.0.0.1", 0))
    silent.listen(0)  # and whoever comes second waits to be let in
    url, queue = f"http://127.0.0.1:{silent.getsockname()[1]}", [socket.socket() for _ in range(4)]
    for each in queue:
        each.setblocking(False)
        each.connect_ex(silent.getsockname())
    started = time.monotonic()
    with pytest.raises(AddNormConnectionError):
        ask(url, lambda client: client.predict("hi", timeout=0.3), retries=QUICK)
    assert time.monotonic() - started < 5  # in the place of 10, the client's own
    for each in (silent, *queue):
        each.close()


def test_what_json_cannot_hold_is_not_sent(ask: Ask):
    with stub(PREDICTED) as server, pytest.raises(AddNormClientError, match="nothing was sent"):
        ask(server.url, lambda client: client.predict("\ud800"))
    assert not server.asked


@pytest.mark.parametrize("body", [b'{"error": ' + b"[" * 100_000, {"error": "No.", "code": None}], ids=["deep", "null"])
def test_odd_errors_are_errors_without_a_code(ask: Ask, body: Any):
    with stub(Reply(400, body)) as server, pytest.raises(AddNormHTTPError) as raised:
        ask(server.url, predict)
    assert (raised.value.status, raised.value.code) == (400, "")


def test_requests_say_what_is_to_be_known(ask: Ask):
    with stub(PREDICTED) as server:
        ask(server.url, lambda client: client.predict(["é"], top_k=2, model="m", version="3"), api_key="secret")
    ((method, path, headers, body),) = server.asked
    assert (method, path) == ("POST", "/predict")
    assert headers["authorization"] == "Bearer secret"
    assert headers["content-type"] == "application/json"
    assert body == {"inputs": ["é"], "top_k": 2, "norm_stats": False, "model": "m", "version": "3"}


@pytest.mark.parametrize(("key", "sent"), [("schlüssel", "schlüssel".encode()), ("\udcff", b"\xff")])
def test_a_key_is_sent_as_the_service_reads_it(key: str, sent: bytes, ask: Ask):
    with stub(PREDICTED) as server:
        ask(server.url, predict, api_key=key)
    shown = server.asked[0][2]["authorization"]
    assert shown.encode("latin-1") == b"Bearer " + sent  # http.server reads headers so


def test_names_in_paths_are_quoted(ask: Ask):
    with stub(Reply(200, {})) as server:
        ask(server.url, lambda client: client.load("a/b?c", "2"))
    assert server.asked[0][1] == "/v2/repository/models/a%2Fb%3Fc/load"
    assert server.asked[0][3] == {"parameters": {"version": "2"}}


def test_fields_of_a_newer_service_are_left_out(ask: Ask):
    prediction = {"label": "a", "score": 1.0, "tokens": 1, "truncated": False, "top": [], "newer": 1}
    with stub(Reply(200, {"model": "m", "version": "1", "predictions": [prediction], "newest": {}})) as server:
        answer = ask(server.url, predict)
    assert answer.predictions[0].label == "a"
    assert not hasattr(answer, "newest")


@pytest.mark.parametrize("body", [b"<html>", {"model": "m"}, []], ids=str)
def test_answer_of_something_else_is_an_error(ask: Ask, body: Any):
    with stub(Reply(200, body)) as server, pytest.raises(AddNormAnswerError, match="check the address") as raised:
        ask(server.url, predict, retries=QUICK)
    assert isinstance(raised.value.__cause__, ValueError)
    assert len(server.asked) == 1


def test_error_of_something_else_is_still_an_error(ask: Ask):
    with stub(Reply(502, b"<html>Bad Gateway</html>")) as server, pytest.raises(AddNormHTTPError) as raised:
        ask(server.url, predict)
    assert (raised.value.status, raised.value.code) == (502, "")
    assert "502 Bad Gateway" in raised.value.message


def test_backoff_doubles_up_to_the_longest():
    retries = Retries(backoff=1, longest=5)
    for attempt, most in ((1, 1), (2, 2), (3, 4), (4, 5), (2000, 5)):
        assert all(most / 2 <= retries.pause(attempt, None) <= most for _ in range(20))
    assert retries.pause(1, 3.0) == 3.0


@pytest.mark.parametrize("arguments", [{"attempts": 0}, {"backoff": -1}, {"backoff": 2, "longest": 1}], ids=str)
def test_retries_that_cannot_be_are_refused(arguments: dict[str, Any]):
    with pytest.raises(ValueError, match="expected"):
        Retries(**arguments)


def test_retry_after_is_seconds_or_a_date():
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert 50 < (seconds(soon) or 0) <= 60
    assert [seconds(value) for value in ("3", None, "soon", "Wed, 21 Oct 2015 07:28:00 GMT")] == [3, None, None, 0]
    assert seconds("Wed, 21 Oct 2015 07:28:00 +99999999999") is None
