import socketserver
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from benchmarks.serving.open_loop import OpenLoop, http_request, parse_response, poisson_schedule

SLOW = 0.3  # seconds that the test server takes for a slow request


class Handler(socketserver.StreamRequestHandler):
    """Answers as the body says: at once, slowly, with 429, or with 429 and a closed connection."""

    def handle(self) -> None:
        while line := self.rfile.readline():
            assert line.startswith(b"POST /predict HTTP/1.1")
            while (header := self.rfile.readline()) != b"\r\n":
                if header.lower().startswith(b"content-length:"):
                    length = int(header.partition(b":")[2])
            kind = self.rfile.read(length).decode()
            if kind == "slow":
                time.sleep(SLOW)
            status = "429 Too Many Requests" if kind in ("refused", "closed") else "200 OK"
            close = "Connection: close\r\n" if kind == "closed" else ""
            self.wfile.write(f"HTTP/1.1 {status}\r\n{close}Content-Length: {len(kind)}\r\n\r\n{kind}".encode())
            if close:
                return


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False


@pytest.fixture
def port() -> Iterator[int]:
    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_schedule_is_poisson_of_the_rate_asked_for():
    due = poisson_schedule(1000, 20, np.random.default_rng(0))
    gaps = np.diff(due)
    assert due.min() > 0
    assert due.max() < 20
    assert (gaps > 0).all()
    assert len(due) == pytest.approx(20_000, rel=0.02)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.03)  # as of an exponential distribution


@pytest.mark.parametrize(
    ("received", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", (200, False)),
        (b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\nConnection: Close\r\n\r\n", (429, True)),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok", None),
        (b"HTTP/1.1 200 OK\r\ncontent-le", None),
    ],
)
def test_response_is_parsed_once_it_is_complete(received: bytes, expected: tuple[int, bool] | None):
    assert parse_response(received) == expected


def test_requests_leave_when_due_whether_or_not_earlier_ones_were_answered(port: int):
    requests = [http_request(port, "/predict", kind) for kind in ("slow", "fast")]
    due = np.array([0.0, 0.02, 0.04, 0.06])
    answers = OpenLoop(port, requests, due, connections=4).run()
    assert answers.status.tolist() == [200] * 4
    assert ((answers.sent - due) < SLOW / 2).all()
    assert (answers.answered - due)[[0, 2]] == pytest.approx(SLOW, abs=SLOW / 2)
    assert ((answers.answered - due)[[1, 3]] < SLOW / 2).all()


def test_latency_counts_the_wait_for_a_connection(port: int):
    answers = OpenLoop(port, [http_request(port, "/predict", "slow")], np.array([0.0, 0.01]), connections=1).run()
    assert answers.sent[1] >= SLOW
    assert answers.latency(200)[1] >= 2 * SLOW - 0.01


def test_refusals_are_told_apart_and_closed_connections_replaced(port: int):
    requests = [http_request(port, "/predict", kind) for kind in ("fast", "refused", "closed")]
    answers = OpenLoop(port, requests, np.linspace(0, 0.1, 30), connections=2).run()
    assert answers.status.tolist() == [200, 429, 429] * 10
    assert answers.share(429) == pytest.approx(2 / 3)
    assert len(answers.latency(200)) == 10


def test_unanswered_requests_are_left_after_the_patience(port: int):
    answers = OpenLoop(port, [http_request(port, "/predict", "slow")], np.zeros(3), connections=1, patience=0.4).run()
    assert answers.status.tolist() == [200, 0, 0]
    assert np.isnan(answers.answered[1:]).all()
