"""A plain request between its body and its answer, without the web framework (service/fastpath/protocol.py)."""

import asyncio
import time
from collections.abc import Mapping
from typing import Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE
from uvicorn.server import ServerState

from runtime.errors import InvalidInput, TooLarge
from service.batching.batcher import Batcher
from service.batching.queue import Answer
from service.http.admission import Admission
from service.http.errors import response_to
from service.inference.request import Inference, ServingContext, Understand
from service.telemetry.counters import CLIENT_CLOSED_REQUEST, Headers, Phases, server_timing
from service.telemetry.logging import REQUEST_ID


class Connection(Protocol):
    """The connection that a request came on."""

    context: ServingContext
    short_ways: Mapping[bytes, Understand]
    admission: Admission | None
    server_state: ServerState
    transport: asyncio.Transport

    def on_response_complete(self) -> None:
        """What came next may be read."""

    def end(self) -> None:
        """Nothing is answered any more."""


class _NoEvent:
    """Nobody waits for the messages of an InferenceCycle."""

    def set(self) -> None:
        pass


class InferenceCycle:
    """A plain request, in the place of uvicorn's RequestResponseCycle; the batcher's receiver of its answer.

    Args:
        protocol: its connection.
        url: a path that the protocol has a short way for.
        keep_alive: whether that stays open after the answer.
    """

    __slots__ = (
        "chunks",
        "disconnected",
        "headers",
        "inference",
        "keep_alive",
        "path",
        "protocol",
        "request_id",
        "response_complete",
        "size",
        "started",
        "understand",
    )
    message_event = _NoEvent()

    def __init__(self, protocol: Connection, url: bytes, headers: Headers, keep_alive: bool) -> None:
        self.protocol, self.headers, self.keep_alive = protocol, headers, keep_alive
        self.path, self.understand = url.decode(), protocol.short_ways[url]
        self.started = time.perf_counter()
        self.disconnected = self.response_complete = False
        self.chunks: list[bytes] = []
        self.size = 0
        self.inference: Inference[bytes] | None = None
        self.request_id = protocol.context.request_log.begin(headers)

    def on_body(self, chunk: bytes) -> None:
        """Holds a part of the body, up to the size that is allowed."""
        self.size += len(chunk)
        if self.size <= self.protocol.context.max_bytes:
            self.chunks.append(chunk)
        elif not self.response_complete:  # the rest is read and dropped, for a client that sends it all before it reads
            self.set_exception(TooLarge(self.protocol.context.max_bytes))

    def on_message_complete(self) -> None:
        """Hands the whole body on, unless the queue is full: then it is refused before it costs anything."""
        if self.response_complete:
            return
        context = self.protocol.context
        try:
            if self.protocol.admission is not None:
                self.protocol.admission.check("inference", self.headers)
            if (full := context.models.full) is not None:
                full.batcher.reject()
                raise full.batcher.overloaded()
            self.inference = self.understand(context, b"".join(self.chunks))
            self.inference.submit(self)
        except Exception as error:
            self.set_exception(error)

    def on_disconnect(self) -> None:
        """The client is gone: drops what has not run."""
        if not self.response_complete:
            self.disconnected = self.response_complete = True
            if self.inference is not None:
                self.inference.abandon()
            self._end(CLIENT_CLOSED_REQUEST)

    def done(self) -> bool:
        return self.response_complete

    def set_result(self, answer: Answer) -> None:
        inference = self.inference
        assert inference is not None
        if inference.input_log is not None:
            REQUEST_ID.set(self.request_id)  # others have run meanwhile
        try:
            body = inference.finish(answer)
        except Exception as error:
            self.set_exception(error)
        else:
            self._send(200, answer_headers(body, inference.phases), body)
            self._end(200, inference.phases)

    def set_exception(self, error: Exception) -> None:
        REQUEST_ID.set(self.request_id)  # for the log: others have run meanwhile
        if self.inference is not None:
            self.inference.fail()
            if isinstance(error, InvalidInput):
                error = error.about(self.inference.inputs_name)
        response = response_to(error, self.path, self.path)
        self._send(response.status_code, header_lines(response.raw_headers), bytes(response.body))
        self._end(response.status_code)

    def _send(self, status: int, headers: bytes, body: bytes) -> None:
        protocol = self.protocol
        close = b"" if self.keep_alive else b"connection: close\r\n"
        self.response_complete = True
        self.inference = None  # which refers to this
        if protocol.transport.is_closing():
            return
        protocol.transport.write(
            b"%sx-request-id: %s\r\n%s\r\n%s"
            % (response_head(protocol.server_state, status, headers), self.request_id, close, body)
        )
        if not self.keep_alive:
            protocol.end()
        protocol.on_response_complete()

    def _end(self, status: int, phases: Phases | None = None) -> None:
        self.protocol.context.request_log.end(
            self.request_id, "POST", self.headers, self.path, status, self.started, phases
        )


def response_head(state: ServerState, status: int, headers: bytes) -> bytes:
    """How a response begins, up to the empty line, which it lacks."""
    return STATUS_LINE[status] + header_lines(state.default_headers) + headers


def answer_headers(body: bytes, phases: Phases | None) -> bytes:
    timing = b"" if phases is None else b"server-timing: %s\r\n" % server_timing(phases)
    return b"content-type: application/json\r\ncontent-length: %d\r\n%s" % (len(body), timing)


def header_lines(headers: Headers) -> bytes:
    return b"".join([b"%s: %s\r\n" % header for header in headers])


class Cached429:
    """The response to requests that are refused unread, but for their ids."""

    def __init__(self) -> None:
        self.status = 0
        self._head = self._body = b""
        self._written: tuple[str, Batcher, float] | None = None

    def render(self, request_id: bytes, path: str, batcher: Batcher, now: float, state: ServerState) -> bytes:
        """A whole response, as it is sent.

        Args:
            path: that was asked.
            batcher: whose queue is full.
            now: on the event loop's clock; what was written at the same time is told again.
            state: what every response of the server bears.
        """
        if self._written != (path, batcher, now):
            response = response_to(batcher.overloaded(), path, path)
            self.status, self._body = response.status_code, bytes(response.body)
            self._head = response_head(state, self.status, header_lines(response.raw_headers))
            self._written = path, batcher, now
        return b"%sx-request-id: %s\r\n\r\n%s" % (self._head, request_id, self._body)
