"""An open-loop load: requests leave when they are due, whether or not earlier ones were answered.

A closed loop (wrk) sends its next request only after an answer, so a slow service slows the load and hides its own
queue. Here arrivals are a Poisson process, as from many independent clients, and a request's latency counts from when
it was due, waiting for a connection included. One thread over epoll, which never sleeps while a run lasts: it wants a
core of its own.
"""

import gc
import select
import socket
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

CONNECTIONS = 1000
PATIENCE = 10.0  # seconds after the last request was due
SENDS_PER_TURN = 8  # so that answers are read, and their times taken, between the sends of a burst
RECEIVE_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Answers:
    """What became of every request, in the order they were due.

    Attributes:
        status: HTTP status, 0 where none came [n].
        due, sent, answered: seconds since the run began [n]; nan where it did not happen.
    """

    status: NDArray[np.int64]
    due: NDArray[np.float64]
    sent: NDArray[np.float64]
    answered: NDArray[np.float64]

    def latency(self, status: int) -> NDArray[np.float64]:
        """Seconds from due to answered, of the requests that were answered so."""
        return np.asarray((self.answered - self.due)[self.status == status])

    def share(self, status: int) -> float:
        return float((self.status == status).mean())


def poisson_schedule(rate: float, seconds: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """When requests are due: on average `rate` a second, at random, for that long."""
    gaps = rng.exponential(1 / rate, size=int(rate * seconds * 1.5) + 100)
    due: NDArray[np.float64] = np.cumsum(gaps)
    return np.asarray(due[due < seconds])


def http_request(port: int, path: str, body: str) -> bytes:
    content = body.encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def parse_response(received: bytes) -> tuple[int, bool] | None:
    """Status and whether the server closes the connection; None while the response is incomplete."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = received[:end].lower()
    at = head.find(b"\r\ncontent-length:")
    assert at >= 0, f"a response without a length: {head!r}"
    length = int(head[at + 17 :].partition(b"\r\n")[0])
    if len(received) < end + 4 + length:
        return None
    return int(head[9:12]), b"\r\nconnection: close" in head


@dataclass(slots=True)
class _Connection:
    socket: socket.socket
    request: int = -1  # -1: idle
    received: bytes = b""


@dataclass(slots=True)
class OpenLoop:
    """One run against a local port.

    Args:
        requests: whole HTTP requests, sent in turn.
        due: seconds from the start, ascending.
    """

    port: int
    requests: Sequence[bytes]
    due: NDArray[np.float64]
    connections: int = CONNECTIONS
    patience: float = PATIENCE
    _open: dict[int, _Connection] = field(default_factory=dict)
    _idle: deque[_Connection] = field(default_factory=deque)
    _waiting: deque[int] = field(default_factory=deque)
    _epoll: select.epoll = field(default_factory=select.epoll)

    def run(self) -> Answers:
        for _ in range(self.connections):
            self._connect()
        count = len(self.due)
        status, sent, answered = np.zeros(count, np.int64), np.full(count, np.nan), np.full(count, np.nan)
        gc.disable()
        try:
            self._loop(self.due.tolist(), status, sent, answered)
        finally:
            gc.enable()
            for connection in self._open.values():
                connection.socket.close()
            self._epoll.close()
        return Answers(status, self.due, sent, answered)

    def _loop(
        self, due: list[float], status: NDArray[np.int64], sent: NDArray[np.float64], answered: NDArray[np.float64]
    ) -> None:
        clock, count, arrived, done = time.perf_counter, len(due), 0, 0
        started = clock()
        while done < count:
            now = clock() - started
            while arrived < count and due[arrived] <= now:
                self._waiting.append(arrived)
                arrived += 1
            for _ in range(min(SENDS_PER_TURN, len(self._waiting), len(self._idle))):
                request = self._waiting.popleft()
                self._send(request)
                sent[request] = clock() - started
            for descriptor, _ in self._epoll.poll(0):
                answer = self._receive(descriptor)
                if answer is not None:
                    request, status[request] = answer
                    answered[request] = clock() - started
                    done += 1
            if now > due[-1] + self.patience:
                return

    def _connect(self) -> None:
        connection = _Connection(socket.create_connection(("127.0.0.1", self.port)))
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.socket.setblocking(False)
        self._open[connection.socket.fileno()] = connection
        self._epoll.register(connection.socket, select.EPOLLIN)
        self._idle.append(connection)

    def _reconnect(self, connection: _Connection) -> None:
        del self._open[connection.socket.fileno()]
        self._epoll.unregister(connection.socket)
        connection.socket.close()
        self._connect()

    def _send(self, request: int) -> None:
        connection = self._idle.popleft()  # the one idle for longest: none is idle until the server closes it
        connection.request = request
        connection.socket.send(self.requests[request % len(self.requests)])

    def _receive(self, descriptor: int) -> tuple[int, int] | None:
        """Reads what came; returns a request and its status once the answer is complete."""
        connection = self._open[descriptor]
        try:
            received = connection.socket.recv(RECEIVE_BYTES)
        except ConnectionError:
            received = b""
        if not received:  # closed: idle for too long, or before it read the request, which is then sent again
            if connection.request >= 0:
                self._waiting.appendleft(connection.request)
            else:
                self._idle.remove(connection)
            self._reconnect(connection)
            return None
        connection.received += received
        found = parse_response(connection.received)
        if found is None:
            return None
        request, connection.request, connection.received = connection.request, -1, b""
        if found[1]:
            self._reconnect(connection)
        else:
            self._idle.append(connection)
        return request, found[0]
