"""The control answers what the service answers, in batches that take as long, and its times come from batches."""

import asyncio
import json

import numpy as np
import pytest

from benchmarks.serving.open_loop import http_request, parse_response
from benchmarks.tails import control
from benchmarks.tails.control import Connection, Control, Options, Ran, Times, fit_times

BODY = '{"inputs": ["what is my balance"]}'
TIMES = Times(batch=1e-3, row=2e-3, token=3e-3, read=5e-3)


class Transport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)


@pytest.fixture(autouse=True)
def spun(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The turns of `spin`, which takes no time here."""
    turns: list[int] = []
    monkeypatch.setattr(control, "spin", turns.append)
    return turns


def serving(answer_bytes: int = 20, max_batch_tokens: int = 16) -> Control:
    return Control(TIMES, {BODY.encode(): 4}, max_batch_tokens, answer_bytes, rate=1000.0)


def ask(server: Control, *chunks: bytes, clients: int = 1) -> list[list[bytes]]:
    """What each client is sent that sends these chunks."""

    async def exchange() -> list[list[bytes]]:
        connections = [Connection(server) for _ in range(clients)]
        for connection in connections:
            connection.connection_made(Transport())  # type: ignore[arg-type]
            for chunk in chunks:
                connection.data_received(chunk)
        await server.batcher.close()
        return [connection.transport.written for connection in connections]

    return asyncio.run(exchange())


def test_a_request_gets_one_answer_of_the_size_asked_for() -> None:
    ((answer,),) = ask(serving(answer_bytes=20), http_request(1, "/predict", BODY))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert parse_response(answer) == (200, False)
    assert len(body) == 20 and json.loads(body)
    assert b"application/json" in head


def test_a_request_that_comes_in_pieces_is_answered_once() -> None:
    request = http_request(1, "/predict", BODY)
    whole, pieces = ask(serving(), request), ask(serving(), request[:10], request[10:-3], request[-3:])
    assert pieces == whole


def test_requests_that_come_together_are_one_batch_with_its_times(spun: list[int]) -> None:
    answers = ask(serving(), http_request(1, "/predict", BODY), clients=3)
    assert [len(each) for each in answers] == [1, 1, 1]
    assert spun == [5, 5, 5, 1 + 3 * 2 + 12 * 3]  # each is read, then all run


def test_a_batch_holds_no_more_tokens_than_the_services(spun: list[int]) -> None:
    ask(serving(max_batch_tokens=8), http_request(1, "/predict", BODY), clients=3)
    assert spun[3:] == [1 + 2 * 2 + 8 * 3, 1 + 2 + 4 * 3]


def test_what_is_no_prediction_is_answered_without_a_batch(spun: list[int]) -> None:
    ((answer,),) = ask(serving(), b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    assert parse_response(answer) == (200, False)
    assert spun == []


def test_a_body_of_unknown_length_is_refused() -> None:
    ((answer,),) = ask(serving(), http_request(1, "/predict", "{}"))
    assert parse_response(answer) == (400, False)


def test_a_client_that_left_gets_nothing() -> None:
    async def leave() -> list[bytes]:
        server = serving()
        connection = Connection(server)
        connection.connection_made(Transport())  # type: ignore[arg-type]
        connection.data_received(http_request(1, "/predict", BODY))
        connection.connection_lost(None)
        await server.batcher.close()
        written: list[bytes] = connection.transport.written
        return written

    assert asyncio.run(leave()) == []


def test_fit_finds_the_times_and_leaves_out_batches_that_were_held_up() -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(1, 9, 400).astype(float)
    tokens = rows * 5 + rng.integers(0, 30, 400)
    seconds = 200e-6 + 30e-6 * rows + 10e-6 * tokens
    seconds[::20] += 8e-3
    found = fit_times(rows, tokens, seconds)
    assert (found.batch, found.row, found.token) == pytest.approx((200e-6, 30e-6, 10e-6), rel=1e-6)
    assert found.seconds(2, 10) == pytest.approx(360e-6)


def test_no_batch_takes_less_than_nothing() -> None:
    assert Times(-1.0, 1e-3, 1e-3).seconds(1, 1) == 0.0


def test_spin_rate_is_what_spinning_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(np.arange(0.0, 1000.0, 0.5).tolist())
    monkeypatch.setattr(control.time, "perf_counter", lambda: next(clock))
    assert control.spin_rate() == control.SPIN / 0.5


def test_every_request_of_a_batch_has_a_share() -> None:
    assert len(Ran(3).split([1, 2])) == 2


def test_options_are_read_as_the_benchmark_writes_them() -> None:
    arguments = {"lengths": "l.json", "port": 1, "batch": 1e-05, "row": -2.5e-06, "token": 0.0, "read": 1e-05}
    options = Options(**arguments)  # type: ignore[arg-type]
    assert (options.batch, options.row, options.read) == (1e-05, -2.5e-06, 1e-05)
