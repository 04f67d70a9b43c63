"""A short way from the socket to the batcher, for plain requests to /predict.

uvicorn's protocol makes a scope, an event and a task of every request, and its answer passes the web framework. A plain
prediction needs none of them: this subclass hands its body to the batcher where its last byte is read, and the
batcher's answer to the transport: 1.13 to 1.2 times the requests per second of one core. All else, and whatever is
unusual about a prediction, goes uvicorn's way to the application, which answers alike.
"""

import re
import time
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.answering import failure
from service.backlog import Answer
from service.journal import REQUEST_ID_HEADER
from service.limits import TooLarge
from service.logs import REQUEST_ID
from service.predict import Content, Desk, Prediction, server_timing
from service.traffic import LEFT, PREDICT

UNUSUAL = frozenset({b"expect", b"origin", b"upgrade"})  # headers that the application answers to
START = b"POST /predict HTTP/1.1\r\n"
LENGTH = re.compile(rb"\r\ncontent-length: *(\d{1,9})\r\n", re.IGNORECASE)
NOT_PLAIN = re.compile(
    rb"\r\n(?:transfer-encoding|connection: *close|" + b"|".join(sorted(UNUSUAL)) + b")", re.IGNORECASE
)


class Protocol(HttpToolsProtocol):
    """One connection.

    Args:
        desk: what answers, and whom.
    """

    def __init__(self, desk: Desk, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self.desk = desk
        self.amid = False  # whether the parser has read a part of a message

    def data_received(self, data: bytes) -> None:
        if self.desk.models.full and self._is_idle() and is_whole_prediction(data):
            self._refuse()
        else:
            super().data_received(data)

    def on_message_begin(self) -> None:
        self.amid = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        if self._is_plain():
            self.cycle = Exchange(self)  # type: ignore[assignment]
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if isinstance(self.cycle, Exchange):
            self.cycle.take(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self.amid = False
        if isinstance(self.cycle, Exchange):
            self.cycle.begin()
        else:
            super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        if isinstance(self.cycle, Exchange):
            self.cycle.leave()
        super().connection_lost(exc)

    def _refuse(self) -> None:
        """Answers a request that came whole, unread; its id is ours, whatever its client called it."""
        desk = self.desk
        refusal = failure(desk.models.default.batcher.refuse(), PREDICT, PREDICT)
        headers = lines([*refusal.raw_headers, (REQUEST_ID_HEADER, desk.journal.identify([]))])
        self.transport.write(message(self, refusal.status_code, headers, bytes(refusal.body)))
        desk.journal.traffic.requests[PREDICT, refusal.status_code] += 1
        self.on_response_complete()

    def _is_idle(self) -> bool:
        """Whether what comes next begins a request: a body may go on after its answer."""
        return not self.amid and (self.cycle is None or self.cycle.response_complete)

    def _is_plain(self) -> bool:
        return (
            self.url == b"/predict"
            and self.parser.get_method() == b"POST"
            and self.parser.get_http_version() == "1.1"
            and (self.cycle is None or self.cycle.response_complete)
            and not self.flow.write_paused
            and not any(name in UNUSUAL for name, _ in self.headers)
        )


class _NoEvent:
    """Nobody waits for an Exchange's messages."""

    def set(self) -> None:
        pass


class Exchange:
    """A plain prediction, in the place of uvicorn's RequestResponseCycle; the batcher's receiver of its answer."""

    __slots__ = (
        "chunks",
        "disconnected",
        "keep_alive",
        "prediction",
        "protocol",
        "request_id",
        "response_complete",
        "size",
        "started",
    )
    message_event = _NoEvent()

    def __init__(self, protocol: Protocol) -> None:
        self.protocol, self.started = protocol, time.perf_counter()
        self.keep_alive: bool = protocol.parser.should_keep_alive()
        self.disconnected = self.response_complete = False
        self.chunks: list[bytes] = []
        self.size = 0
        self.prediction: Prediction | None = None
        journal = protocol.desk.journal
        self.request_id = journal.identify(protocol.headers)
        journal.traffic.in_flight += 1

    def take(self, chunk: bytes) -> None:
        """Holds a part of the body, up to the size that is allowed."""
        self.size += len(chunk)
        if self.size <= self.protocol.desk.max_bytes:
            self.chunks.append(chunk)
        elif not self.response_complete:
            self.keep_alive = False  # what is left of the body is not read
            self.set_exception(TooLarge(self.protocol.desk.max_bytes))

    def begin(self) -> None:
        """Hands the whole body on, unless there is no room for it: then it is refused before it costs anything."""
        if self.response_complete:
            return
        desk = self.protocol.desk
        try:
            if desk.admission is not None:
                desk.admission.check("inference", self.protocol.headers)
            if desk.models.full:
                raise desk.models.default.batcher.refuse()
            self.prediction = Prediction(desk, b"".join(self.chunks), self)
        except Exception as error:
            self.set_exception(error)

    def leave(self) -> None:
        """The client is gone: drops what has not run."""
        if not self.response_complete:
            self.disconnected = self.response_complete = True
            if self.prediction is not None:
                self.prediction.abandon()
            self._note(LEFT, None)

    def done(self) -> bool:
        return self.response_complete

    def set_result(self, answer: Answer) -> None:
        assert self.prediction is not None
        try:
            content = self.prediction.content(answer)
        except Exception as error:
            self.set_exception(error)
        else:
            self._send(200, headers_of(content), content.body)
            self._note(200, content)

    def set_exception(self, error: Exception) -> None:
        REQUEST_ID.set(self.request_id)  # for the log: others have run meanwhile
        if self.prediction is not None:
            self.prediction.fail()
        response = failure(error, PREDICT, PREDICT)
        self._send(response.status_code, lines(response.raw_headers), bytes(response.body))
        self._note(response.status_code, None)

    def _send(self, status: int, headers: bytes, body: bytes) -> None:
        protocol = self.protocol
        headers += b"x-request-id: %s\r\n" % self.request_id
        if not self.keep_alive:
            headers += b"connection: close\r\n"
        protocol.transport.write(message(protocol, status, headers, body))
        self.response_complete = True
        self.prediction = None  # which refers to this
        if not self.keep_alive:
            protocol.transport.close()
        protocol.on_response_complete()

    def _note(self, status: int, content: Content | None) -> None:
        journal = self.protocol.desk.journal
        journal.traffic.in_flight -= 1
        journal.traffic.requests[PREDICT, status] += 1
        if journal.writes:
            REQUEST_ID.set(self.request_id)
            scope = {"method": "POST", "path": PREDICT, "headers": self.protocol.headers}
            journal.write(scope, PREDICT, status, time.perf_counter() - self.started, content and content.phases)


def is_whole_prediction(data: bytes) -> bool:
    """Whether these bytes are one plain request to /predict from its first to its last."""
    if not data.startswith(START):
        return False
    end = data.find(b"\r\n\r\n")
    length = LENGTH.search(data, 0, end + 2)
    return length is not None and int(length[1]) == len(data) - end - 4 and not NOT_PLAIN.search(data, 0, end)


def message(protocol: Protocol, status: int, headers: bytes, body: bytes) -> bytes:
    """A whole response, as it is sent."""
    defaults = lines(protocol.server_state.default_headers)
    return b"".join((STATUS_LINE[status], defaults, headers, b"\r\n", body))


def headers_of(content: Content) -> bytes:
    return b"content-type: application/json\r\ncontent-length: %d\r\nserver-timing: %s\r\n" % (
        len(content.body),
        server_timing(content.phases).encode(),
    )


def lines(headers: list[tuple[bytes, bytes]]) -> bytes:
    return b"".join([b"%s: %s\r\n" % header for header in headers])
