"""A plain prediction between its request and its answer, without the web framework (service/protocol.py)."""

import time
from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import STATUS_LINE
from uvicorn.server import ServerState

from service.answering import failure
from service.backlog import Answer
from service.journal import Headers
from service.limits import TooLarge
from service.logs import REQUEST_ID
from service.predict import Content, Prediction, server_timing
from service.traffic import LEFT, PREDICT

if TYPE_CHECKING:
    from service.protocol import Protocol


class _NoEvent:
    """Nobody waits for an Exchange's messages."""

    def set(self) -> None:
        pass


class Exchange:
    """A plain prediction, in the place of uvicorn's RequestResponseCycle; the batcher's receiver of its answer.

    Args:
        protocol: its connection.
        keep_alive: whether that stays open after the answer.
    """

    __slots__ = (
        "chunks",
        "disconnected",
        "headers",
        "keep_alive",
        "prediction",
        "protocol",
        "request_id",
        "response_complete",
        "size",
        "started",
    )
    message_event = _NoEvent()

    def __init__(self, protocol: "Protocol", headers: Headers, keep_alive: bool) -> None:
        self.protocol, self.headers, self.keep_alive = protocol, headers, keep_alive
        self.started = time.perf_counter()
        self.disconnected = self.response_complete = False
        self.chunks: list[bytes] = []
        self.size = 0
        self.prediction: Prediction | None = None
        journal = protocol.desk.journal
        self.request_id = journal.identify(headers)
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
                desk.admission.check("inference", self.headers)
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
        close = b"" if self.keep_alive else b"connection: close\r\n"
        protocol.transport.write(
            b"%sx-request-id: %s\r\n%s\r\n%s"
            % (head(protocol.server_state, status, headers), self.request_id, close, body)
        )
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
            scope = {"method": "POST", "path": PREDICT, "headers": self.headers}
            journal.write(scope, PREDICT, status, time.perf_counter() - self.started, content and content.phases)


def head(state: ServerState, status: int, headers: bytes) -> bytes:
    """How a response begins, up to the empty line, which it lacks."""
    return STATUS_LINE[status] + lines(state.default_headers) + headers


def headers_of(content: Content) -> bytes:
    return b"content-type: application/json\r\ncontent-length: %d\r\nserver-timing: %s\r\n" % (
        len(content.body),
        server_timing(content.phases).encode(),
    )


def lines(headers: Headers) -> bytes:
    return b"".join([b"%s: %s\r\n" % header for header in headers])
