"""uvicorn's HTTP protocol, bounded: limited heads, deadlines, no upgrades, and no request lost at a stop.

What is refused here never becomes a request of the application: heads that are too large, bytes that are no HTTP, and
clients that keep silent. Requests that came before on the same connection are answered first.
"""

import asyncio
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.http.closing import GentleTransport, abandon_unread
from service.http.heads import HeadRefused, check_head, without_upgrade
from service.http.limits import CONNECT, HEAD_BYTES, LARGE_HEAD, NOT_HTTP, SLOW_BODY, SLOW_HEAD, Deadlines, Rejection
from service.sockets import has_unread
from service.telemetry.counters import OTHER, RequestCounters

LINGER = 2.0  # seconds in which a refused client can read why, while what it still sends is dropped
LAST_CALL = 0.5  # seconds in which a stopping service answers what open connections still send


class BoundedProtocol(HttpToolsProtocol):
    """One connection.

    Args:
        deadlines: closes it where its client keeps silent.
        counters: count what is refused.

    Attributes:
        running: the request that is being answered; others may wait behind it (pipelining).
        since: when the connection last changed what it waits for, on the event loop's clock.
    """

    def __init__(self, deadlines: Deadlines, counters: RequestCounters, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self.deadlines, self.counters = deadlines, counters
        self.running: Any = None
        self.in_message = self.in_head = False  # what the parser has read a part of
        self.progress = False  # whether the chunk that is read began a message, or had a part of a body
        self.overhead = 0  # bytes read since then
        self.upgrading = False  # whether the parser leaves the body of this request unread
        self.rejection: Rejection | None = None  # sent, or to be sent
        self.lingering = self.stopping = False
        self.since = self.loop.time()
        self.lifetime = deadlines.lifetime(self.since)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.deadlines.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.deadlines.discard(self)
        if self.running is not None:
            self.drop(self.running)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self.read(data)

    def read(self, data: bytes) -> None:
        """Parses what came; what follows a refusal is dropped."""
        if self.rejection is not None or self.lingering:
            return
        self.progress = False
        try:
            self._parse(memoryview(data))
        except httptools.HttpParserError as error:
            reason = error.__context__
            self.reject(reason.rejection if isinstance(reason, HeadRefused) else NOT_HTTP)
            return
        self.overhead += len(data) if self.in_message and not self.progress else 0
        if self.overhead > HEAD_BYTES:
            self.reject(LARGE_HEAD)

    def _parse(self, data: memoryview) -> None:
        """An upgrade is ignored, as RFC 9110 (7.8) allows: the parser would take the request's body for a request."""
        while data:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                self.upgrading = False
                if self.scope["method"] == "CONNECT":
                    self.in_message = False
                    self.reject(CONNECT)
                    return
                data = data[upgrade.args[0] :]
                head = without_upgrade(self.scope["method"], self.url, self.headers, self.scope["http_version"])
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
                self.parser.feed_data(head)

    # What the parser found

    def on_message_begin(self) -> None:
        self.in_message = self.in_head = self.progress = True
        self.overhead, self.since = 0, self.loop.time()
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.in_head:  # what follows a body in chunks is no header of the request
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self.lingering:
            raise HeadRefused(NOT_HTTP)  # it follows the last answer, and is not read
        self.since = self.loop.time()
        check_head(self.url, self.headers, self.parser.get_http_version())
        if self.parser.should_upgrade():
            self.upgrading = True
            self.scope["method"] = self.parser.get_method().decode()
            self.scope["http_version"] = self.parser.get_http_version()
            return
        before = self.cycle if self.running is not None else None
        self.begin_request()
        self.in_head = False
        if self.is_last():
            self.lifetime.end_with(self.cycle, before)

    def is_last(self) -> bool:
        """Counts a request that has come; whether the connection is to end with it."""
        return self.lifetime.is_over(self.loop.time()) or self.stopping

    def begin_request(self) -> None:
        """A request has come but for its body."""
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self.progress, self.overhead = True, 0
        self.take_body(body)

    def take_body(self, body: bytes) -> None:
        """A part of the body has come."""
        super().on_body(body)

    def on_message_complete(self) -> None:
        if not self.upgrading:
            self.in_message, self.since = False, self.loop.time()
            self.complete_request()

    def complete_request(self) -> None:
        """The rest of the body has come."""
        super().on_message_complete()

    # What is answered

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self.running = cycle
        cycle.transport = GentleTransport(self)  # type: ignore[assignment]
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """In the place of uvicorn's, which sets a timer; `deadlines` closes idle connections here."""
        self.server_state.total_requests += 1
        self.running = None
        if self.transport.is_closing() or self.lingering:
            return
        if not self.in_message:
            self.since = self.loop.time()
        if self.pipeline:
            self.flow.resume_reading()
            self._start_asgi_task(*self.pipeline.pop())
        elif self.rejection is not None:
            self._send_rejection(self.rejection)
        else:
            self.flow.resume_reading()

    def reject(self, rejection: Rejection) -> None:
        """Answers what is not a request, once the requests before it are answered, and closes the connection."""
        if self.lingering:  # behind its last answer
            return
        self.rejection = rejection = rejection.of(self.url if self.in_message else b"")
        if self.in_message and not self.in_head:  # in the body of the last request
            if self.cycle.response_complete or getattr(self.cycle, "response_started", False):
                self.transport.close()
                return
            if self.pipeline and self.pipeline[0][0] is self.cycle:
                self.pipeline.popleft()
            else:
                self.drop(self.cycle)
                self.running = None
        if self.running is not None:
            self.flow.pause_reading()
        else:
            self._send_rejection(rejection)

    def _send_rejection(self, rejection: Rejection) -> None:
        self.counters.requests[OTHER, rejection.status] += 1
        self.transport.write(rejection.render(self.server_state.default_headers))
        self._linger()

    def end(self) -> None:
        """Closes the connection behind an answer; where its client still sends, once that had the time to read it."""
        if self.in_message and not self.transport.is_closing():
            self._linger()
        else:
            self.transport.close()

    def _linger(self) -> None:
        self.lingering, self.since = True, self.loop.time()
        self.flow.resume_reading()  # to close with bytes unread would take the answer from the client
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def drop(self, cycle: Any) -> None:
        """Nobody is there for the answer."""
        cycle.disconnected = True
        cycle.message_event.set()

    # What ends

    def patience(self) -> float:
        """Seconds after `since` at which the connection ends as it stands."""
        if self.lingering:
            return LINGER
        if self.in_head or self.cycle is None:
            return self.deadlines.head
        if self.in_message:
            return self.deadlines.body
        return self.timeout_keep_alive if self.running is None else float("inf")

    def expire(self) -> None:
        """It has waited for so long."""
        if self.in_message and not self.lingering and self.rejection is None:
            self.reject(SLOW_HEAD if self.in_head else SLOW_BODY)
        elif self.rejection is None or self.lingering:
            self.transport.close()

    def is_held_back(self) -> bool:
        """Whether the service itself reads nothing of what came."""
        return self.flow.read_paused

    def shutdown(self) -> None:
        """The service stops: what open connections still send is answered with `Connection: close`."""
        self.stopping = True
        if grace := self.config.timeout_graceful_shutdown:
            self.loop.call_later(grace - LAST_CALL, abandon_unread, self.transport)
        if self.running is not None:
            self.lifetime.end_with(self.cycle)
        else:
            self.loop.call_later(LAST_CALL, self._close_if_idle)

    def _close_if_idle(self) -> None:
        if self.running is not None or (self.in_message and not self.in_head) or self.transport.is_closing():
            return
        if has_unread(self.transport):
            self.loop.call_later(LAST_CALL, self._close_if_idle)
        else:
            self.transport.close()
