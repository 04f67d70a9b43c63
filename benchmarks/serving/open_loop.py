"""An open-loop load: requests leave when they are due, whether or not earlier ones were answered.

A closed loop (wrk) sends its next request only after an answer, so a slow service slows the load and hides its own
queue. Here arrivals are a Poisson process, as from many independent clients, and a request's latency counts from when
it was due, waiting for a connection included. One thread over epoll, which never sleeps while a run lasts unless it is
told to: it wants a core of its own.
"""

import gc
import os
import resource
import select
import socket
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONNECTIONS = 8000  # more than a service lets wait before it refuses
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

    def after(self, seconds: float) -> "Answers":
        """Of the requests that were due later than that."""
        later = self.due > seconds
        return Answers(self.status[later], self.due[later], self.sent[later], self.answered[later])

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
    request: int
    received: bytes = b""


class OpenLoop:
    """One run against a local port.

    Args:
        requests: whole HTTP requests, sent in turn.
        due: seconds from the start, ascending.
        connections: most that are open at once; a request takes an idle one, else a new one, else it waits.
        patience: seconds after the last request is due until the run ends, answered or not.
        rest: seconds that it sleeps where there is nothing to do, where it has no core of its own; it then sends, and
            takes the time of answers, as much too late.
    """

    def __init__(
        self,
        port: int,
        requests: Sequence[bytes],
        due: NDArray[np.float64],
        connections: int = CONNECTIONS,
        patience: float = PATIENCE,
        rest: float = 0.0,
    ) -> None:
        self.address, self.requests, self.due = ("127.0.0.1", port), requests, due
        self.connections, self.patience, self.rest = connections, patience, rest
        self.status = np.zeros(len(due), dtype=np.int64)
        self.sent, self.answered = np.full((2, len(due)), np.nan)
        self.busy: dict[int, _Connection] = {}  # by file descriptor
        self.idle: dict[int, _Connection] = {}
        self.waiting: deque[int] = deque()  # requests that are due
        self.epoll = select.epoll()

    def run(self) -> Answers:
        allow_descriptors(self.connections + 100)
        gc.disable()
        try:
            self._loop(self.due.tolist())
        finally:
            gc.enable()
            for connection in [*self.busy.values(), *self.idle.values()]:
                connection.socket.close()
            self.epoll.close()
        return Answers(self.status, self.due, self.sent, self.answered)

    def _loop(self, due: list[float]) -> None:
        arrived, done, count = 0, 0, len(due)
        self.started = time.perf_counter()
        while done < count and (now := self._now()) < due[-1] + self.patience:
            while arrived < count and due[arrived] <= now:
                self.waiting.append(arrived)
                arrived += 1
            for _ in range(SENDS_PER_TURN):
                if not self.waiting or not (self.idle or len(self.busy) < self.connections):
                    break
                self._begin(self.waiting.popleft())
            events = self.epoll.poll(0)
            if self.rest and not events and not self.waiting:
                time.sleep(self.rest)
            for descriptor, event in events:
                if event & select.EPOLLOUT:
                    self._connected(descriptor)
                else:
                    done += self._receive(descriptor)

    def _now(self) -> float:
        return time.perf_counter() - self.started

    def _begin(self, request: int) -> None:
        """Sends a request over the connection that was idle last, else over a new one."""
        if self.idle:
            descriptor, connection = self.idle.popitem()
            connection.request = request
            self.busy[descriptor] = connection
            self._send(connection)
            return
        connection = _Connection(socket.socket(), request)
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.socket.setblocking(False)
        self.busy[connection.socket.fileno()] = connection
        if connection.socket.connect_ex(self.address) == 0:  # on one machine, this is the usual case
            self.epoll.register(connection.socket, select.EPOLLIN)
            self._send(connection)
        else:
            self.epoll.register(connection.socket, select.EPOLLOUT)

    def _connected(self, descriptor: int) -> None:
        connection = self.busy[descriptor]
        if error := connection.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(error, f"{self.address} cannot be connected to: {os.strerror(error)}")
        self.epoll.modify(descriptor, select.EPOLLIN)
        self._send(connection)

    def _send(self, connection: _Connection) -> None:
        try:
            connection.socket.send(self.requests[connection.request % len(self.requests)])
        except ConnectionError:
            return  # closed by the server while idle; _receive sends it again
        self.sent[connection.request] = self._now()

    def _receive(self, descriptor: int) -> bool:
        """Reads what came; returns whether that was the rest of an answer."""
        connection = self.busy.get(descriptor) or self.idle[descriptor]
        try:
            received = connection.socket.recv(RECEIVE_BYTES)
        except ConnectionError:
            received = b""
        if not received:
            self._closed(descriptor, connection)
            return False
        connection.received += received
        found = parse_response(connection.received)
        if found is None:
            return False
        self.status[connection.request], closes = found
        self.answered[connection.request] = self._now()
        connection.received = b""
        del self.busy[descriptor]
        if closes:
            connection.socket.close()
        else:
            self.idle[descriptor] = connection
        return True

    def _closed(self, descriptor: int, connection: _Connection) -> None:
        """The server closed it, after it was idle for long, or just before it got a request: that is sent again."""
        if self.idle.pop(descriptor, None) is None:
            del self.busy[descriptor]
            self.waiting.appendleft(connection.request)
        connection.socket.close()


def allow_descriptors(count: int) -> None:
    """Raises this process's limit of open files, and so that of what it starts, as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (count if hard == resource.RLIM_INFINITY else min(count, hard), hard)
        )
