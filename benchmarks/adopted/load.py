"""A closed loop that keeps every answer: so many clients, each sending its next request once it has its answer.

One thread over epoll. It only takes the time and keeps the bytes while it runs, some 50 us a request; answers are read
and compared with the expected ones afterwards. A client that is refused with 429 waits as long as Retry-After says and
sends its request again; its latency counts from when it was sent first.
"""

import heapq
import json
import select
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.serving.open_loop import parse_response

PATIENCE = 600.0  # seconds for a whole run
RECEIVE_BYTES = 1 << 18
REFUSED, RETRY_AFTER = 429, b"\r\nretry-after:"
SAME = 0.9999  # cosine from which on an answer counts as right

Embeddings = Callable[[Any], list[list[float]]]


@dataclass(slots=True)
class Answer:
    """What became of a request.

    Attributes:
        status: HTTP status of the last answer, 0 where none came.
        refused: how often it was refused before.
        sent, received: seconds since the run began.
        response: the last answer, with its headers.
    """

    status: int = 0
    refused: int = 0
    sent: float = 0.0
    received: float = 0.0
    response: bytes = b""


class Client:
    """A connection with at most one request under way.

    Attributes:
        open: whether it can take another.
    """

    def __init__(self, port: int) -> None:
        self.open = True
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.request, self.answer = b"", Answer()
        self.parts: list[bytes] = []

    def send(self, request: bytes, answer: Answer) -> None:
        self.request, self.answer, self.parts = request, answer, []
        self.socket.sendall(request)

    def receive(self, now: float) -> bool:
        """Reads what came; whether the answer is complete, or none will come."""
        try:
            received = self.socket.recv(RECEIVE_BYTES)
        except ConnectionError:
            received = b""
        self.parts.append(received)
        whole = b"".join(self.parts)
        found = parse_response(whole)
        if received and found is None:
            return False
        status, closes = found or (0, True)
        self.answer.status, self.answer.received, self.answer.response = status, now, whole
        self.open = not closes
        return True


class ClosedLoop:
    """One run against a local port, in which every request is answered once.

    Args:
        requests: whole HTTP requests.
        patience: seconds until the run ends, answered or not.
    """

    def __init__(self, port: int, requests: Sequence[bytes], clients: int, patience: float = PATIENCE) -> None:
        self.port, self.clients, self.patience = port, min(clients, len(requests)), patience
        self.answers = [Answer() for _ in requests]
        self.waiting = iter(zip(requests, self.answers, strict=True))
        self.busy: dict[int, Client] = {}  # by file descriptor
        self.pausing: list[tuple[float, int, bytes, Answer]] = []  # until when
        self.epoll = select.epoll()

    def run(self) -> list[Answer]:
        self.started = time.perf_counter()
        for _ in range(self.clients):
            self._next(Client(self.port))
        while (self.busy or self.pausing) and (now := self._now()) < self.patience:
            while self.pausing and self.pausing[0][0] <= now:
                self._send(Client(self.port), *heapq.heappop(self.pausing)[2:])
            until = self.pausing[0][0] if self.pausing else self.patience
            for descriptor, _ in self.epoll.poll(max(0.0, until - now)):
                self._receive(self.busy[descriptor])
        for client in self.busy.values():
            client.answer.received = self._now()
            client.socket.close()
        self.epoll.close()
        return self.answers

    def _now(self) -> float:
        return time.perf_counter() - self.started

    def _next(self, client: Client) -> None:
        """Sends the next request, or closes the connection where there is none."""
        if (found := next(self.waiting, None)) is None:
            client.socket.close()
            return
        found[1].sent = self._now()
        self._send(client, *found)

    def _send(self, client: Client, request: bytes, answer: Answer) -> None:
        self.busy[client.socket.fileno()] = client
        self.epoll.register(client.socket, select.EPOLLIN)
        client.send(request, answer)

    def _receive(self, client: Client) -> None:
        if not client.receive(self._now()):
            return
        del self.busy[client.socket.fileno()]
        self.epoll.unregister(client.socket)
        if client.answer.status == REFUSED:
            self._pause(client)
        elif client.open:
            self._next(client)
        else:
            client.socket.close()
            self._next(Client(self.port))

    def _pause(self, client: Client) -> None:
        """Sends the request again later, over a new connection: who waits long finds the old one closed."""
        client.socket.close()
        client.answer.refused += 1
        due = client.answer.received + retry_after(client.answer.response)
        heapq.heappush(self.pausing, (due, id(client.answer), client.request, client.answer))


def retry_after(response: bytes) -> float:
    """Seconds that a refused client is asked to wait; 1 where it is not said."""
    _, found, after = response.partition(b"\r\n\r\n")[0].lower().partition(RETRY_AFTER)
    return float(after.partition(b"\r\n")[0]) if found else 1.0


@dataclass(frozen=True, slots=True)
class Checked:
    """Requests of one run.

    Attributes:
        right: answered as expected.
        failed: not answered with 200, by status, with those that were refused first; 0 where no answer came.
        wrong: answered with other vectors.
        seconds: from the first request to the last answer.
        latencies: seconds, of those answered as expected.
    """

    right: int
    failed: dict[int, int]
    wrong: int
    seconds: float
    latencies: list[float]


def check(answers: Sequence[Answer], expected: Sequence[NDArray[np.float32]], embeddings: Embeddings) -> Checked:
    """Compares every answer with the vectors [rows, D] that are expected of its request."""
    failed: Counter[int] = Counter()
    latencies, wrong = [], 0
    for answer, rows in zip(answers, expected, strict=True):
        failed[REFUSED] += answer.refused
        if answer.status != 200:
            failed[answer.status] += 1
        elif is_same(embeddings(json.loads(answer.response.partition(b"\r\n\r\n")[2])), rows):
            latencies.append(answer.received - answer.sent)
        else:
            wrong += 1
    seconds = max(answer.received for answer in answers)
    return Checked(len(latencies), dict(+failed), wrong, seconds, latencies)


def is_same(found: list[list[float]], expected: NDArray[np.float32]) -> bool:
    """Whether every vector points where the expected one does."""
    vectors = np.array(found, dtype=np.float64)
    if vectors.shape != expected.shape:
        return False
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(expected, axis=1)
    return bool(((vectors * expected).sum(1) > SAME * lengths).all())
