"""What a connection may take: the size of its heads, deadlines for silent clients, and the answers beyond them."""

import asyncio
import json
from dataclasses import dataclass
from typing import Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

HEAD_BYTES = 65_536  # of a request line and its headers; as much of what surrounds the chunks of a body


@dataclass(frozen=True, slots=True)
class Rejection:
    """The answer to what is not a request."""

    status: int
    code: str
    message: str

    def render(self, default_headers: list[tuple[bytes, bytes]]) -> bytes:
        body = json.dumps({"error": self.message, "code": self.code}).encode()
        headers = [*default_headers, (b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        lines = b"".join(b"%s: %s\r\n" % header for header in [*headers, (b"connection", b"close")])
        return STATUS_LINE[self.status] + lines + b"\r\n" + body


NOT_HTTP = Rejection(400, "invalid_http", "The bytes are not HTTP/1.1: send a request as RFC 9112 has it.")
CONNECT = Rejection(405, "method_not_allowed", "CONNECT is not taken: this service is no proxy.")
LARGE_HEAD = Rejection(431, "head_too_large", f"The headers take more than {HEAD_BYTES:,} bytes: send fewer.")
SLOW_HEAD = Rejection(408, "request_timeout", "The headers took too long: send the request again.")
SLOW_BODY = Rejection(408, "request_timeout", "The body took too long: send the request again, or less at once.")

TICK = 1.0  # seconds


class Connection(Protocol):
    since: float

    def patience(self) -> float: ...
    def is_held_back(self) -> bool: ...
    def expire(self) -> None: ...


class Deadlines:
    """The connections of one process.

    Args:
        head: seconds until the first byte of a connection's first request, and for each head.
        body: seconds for each body.
    """

    def __init__(self, head: float, body: float) -> None:
        self.head, self.body = head, body
        self._connections: set[Connection] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, connection: Connection) -> None:
        self._connections.add(connection)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TICK, self._tick)

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
