import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import numpy as np

from benchmarks.adopted.load import ClosedLoop, check, retry_after
from benchmarks.serving.open_loop import http_request


class Handler(BaseHTTPRequestHandler):
    """Answers a number with itself as a vector; 2 is refused once, 3 always fails, 4 gets no answer."""

    protocol_version = "HTTP/1.1"
    refused: ClassVar[set[int]] = set()

    def do_POST(self) -> None:
        number = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if number == 4:
            self.close_connection = True
            return
        status = 500 if number == 3 else 429 if number == 2 and number not in self.refused else 200
        self.refused.add(number)
        body = json.dumps([[float(number), 1.0]]).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if status == 429:
            self.send_header("Retry-After", "0")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Prints nothing."""


@contextmanager
def served() -> Iterator[int]:
    Handler.refused.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_every_request_is_answered_once_and_failures_are_counted():
    with served() as port:
        requests = [http_request(port, "/", str(number)) for number in range(6)]
        answers = ClosedLoop(port, requests, 2).run()
    assert [answer.status for answer in answers] == [200, 200, 200, 500, 0, 200]
    expected = [np.array([[number, 1]], dtype=np.float32) for number in range(6)]
    expected[5] = np.array([[-5, 1]], dtype=np.float32)
    found = check(answers, expected, lambda answer: answer)
    assert (found.right, found.wrong, found.failed) == (3, 1, {429: 1, 500: 1, 0: 1})
    assert found.seconds >= max(found.latencies)


def test_a_refused_client_waits_as_long_as_it_is_asked_to():
    assert retry_after(b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 3\r\nContent-Length: 0\r\n\r\n") == 3
    assert retry_after(b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\nretry-after: 9") == 1
