"""What a connection may take: the size of its heads, deadlines for silent clients, and the answers beyond them."""

import asyncio
import math
import random
from dataclasses import dataclass, replace
from typing import Any, Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from service.http.errors import error_response

HEAD_BYTES = 65_536  # of a request line and its headers; as much of what surrounds the chunks of a body


@dataclass(frozen=True, slots=True)
class Rejection:
    """The answer to what is not a request."""

    status: int
    code: str
    message: str
    path: str = ""
    """Of the request, as far as it came."""

    def of(self, url: bytes) -> "Rejection":
        """The same, of the request to `url`."""
        return replace(self, path=url.decode("latin-1"))

    def render(self, default_headers: list[tuple[bytes, bytes]]) -> bytes:
        body = error_response(self.status, self.message, self.code, self.path).body
        headers = [*default_headers, (b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        lines = b"".join(b"%s: %s\r\n" % header for header in [*headers, (b"connection", b"close")])
        return STATUS_LINE[self.status] + lines + b"\r\n" + body


NOT_HTTP = Rejection(400, "invalid_http", "The bytes are not HTTP/1.1: send a request as RFC 9112 has it.")
CONNECT = Rejection(405, "method_not_allowed", "CONNECT is not taken: this service is no proxy.")
LARGE_HEAD = Rejection(431, "head_too_large", f"The headers take more than {HEAD_BYTES:,} bytes: send fewer.")
SLOW_HEAD = Rejection(408, "request_timeout", "The headers took too long: send the request again.")
SLOW_BODY = Rejection(408, "request_timeout", "The body took too long: send the request again, or less at once.")

TICK = 1.0  # seconds
JITTER = 0.1  # share by which a connection's age differs from what is set: else all that began together end together


class Connection(Protocol):
    since: float

    def patience(self) -> float: ...
    def is_held_back(self) -> bool: ...
    def expire(self) -> None: ...


class Lifetime:
    """When a connection ends with an answer, so that its client connects anew.

    Args:
        until: on the event loop's clock.
        requests: how many it takes.
    """

    __slots__ = ("last", "requests", "until")

    def __init__(self, until: float, requests: float) -> None:
        self.until, self.requests = until, requests
        self.last: Any = None  # the request whose answer ends the connection

    def is_over(self, now: float) -> bool:
        """Counts a request that has come; whether the connection ends with it."""
        self.requests -= 1
        return self.requests <= 0 or now >= self.until

    def end_with(self, cycle: Any, before: Any = None) -> None:
        """Ends the connection with this request's answer, and not with that of the one before it: none is lost."""
        if before is not None and before is self.last and not getattr(before, "response_started", False):
            before.keep_alive = True
        self.last = cycle if cycle.keep_alive or cycle is self.last else None
        cycle.keep_alive = False


class Deadlines:
    """The connections of one process.

    Args:
        head: seconds until the first byte of a connection's first request, and for each head.
        body: seconds for each body.
        age: seconds after which a connection ends with its next answer; None sets no limit.
        requests: requests after which it does.
    """

    def __init__(self, head: float, body: float, age: float | None = None, requests: int | None = None) -> None:
        self.head, self.body, self.age = head, body, age
        self.requests = math.inf if requests is None else requests
        self._connections: set[Connection] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, connection: Connection) -> None:
        self._connections.add(connection)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TICK, self._tick)

    def lifetime(self, now: float) -> Lifetime:
        """Of a connection that begins now, on the event loop's clock."""
        age = math.inf if self.age is None else self.age * random.uniform(1 - JITTER, 1 + JITTER)
        return Lifetime(now + age, self.requests)

    def discard(self, connection: Connection) -> None:
        self._connections.discard(connection)

    def _tick(self) -> None:
        loop, now = asyncio.get_running_loop(), asyncio.get_running_loop().time()
        self._timer = loop.call_later(TICK, self._tick) if self._connections else None
        for connection in [each for each in self._connections if now - each.since >= each.patience()]:
            if connection.is_held_back():
                connection.since = now
            else:
                connection.expire()
