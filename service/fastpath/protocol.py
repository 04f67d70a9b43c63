"""A short way from the socket to the batcher, for plain requests to /predict.

uvicorn's protocol makes a scope, an event and a task of every request, and its answer passes the web framework. A plain
prediction needs none of them: this subclass hands its body to the batcher where its last byte is read, and the
batcher's answer to the transport. All else, and whatever is unusual about a prediction, goes uvicorn's way to the
application, which answers alike. docs/benchmarks.md says what that saves.
"""

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.fastpath.cycle import Cached429, PredictionCycle
from service.fastpath.head_cache import END, Head, HeadCache
from service.fastpath.read_scheduler import ReadScheduler
from service.http.admission import Admission
from service.inference.request import ServingContext
from service.telemetry.counters import PREDICT

UNUSUAL = frozenset({b"expect", b"origin", b"upgrade"})  # headers that the application answers to


class Protocol(HttpToolsProtocol):
    """One connection.

    Args:
        context: what answers.
        admission: who is let in; None where all are.
        head_cache: request heads, as they were parsed on any connection.
        cached_429: what those are told who are refused unread.
        scheduler: when it reads what comes.
    """

    def __init__(
        self,
        context: ServingContext,
        admission: Admission | None,
        head_cache: HeadCache,
        cached_429: Cached429,
        scheduler: ReadScheduler,
        **uvicorns: Any,
    ) -> None:
        super().__init__(**uvicorns)
        self.context, self.admission = context, admission
        self.head_cache, self.cached_429, self.scheduler = head_cache, cached_429, scheduler
        self.in_message = False  # whether the parser has read a part of a message
        self.head = b""  # of the message that may begin with what is being read
        self.last_response = 0.0  # when it left, on the event loop's clock

    def data_received(self, data: bytes) -> None:
        self.scheduler.receive(self, data)

    def read(self, data: bytes) -> None:
        """Reads what came, when the scheduler says so."""
        self.head = b""
        if self._is_idle():
            start = data.find(END) + len(END)
            self.head = data[:start]
            known = self.head_cache.known.get(self.head)
            if known is not None and len(data) - start == known.length and not self.flow.write_paused:
                self._begin(known, data[start:])
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        self.in_message = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        head, self.head = self.head, b""
        if not self._is_plain():
            super().on_headers_complete()
            return
        keep_alive: bool = self.parser.should_keep_alive()
        self.cycle = PredictionCycle(self, self.headers, keep_alive)  # type: ignore[assignment]
        if head and keep_alive:
            self.head_cache.learn(head, self.headers)

    def on_body(self, body: bytes) -> None:
        if isinstance(self.cycle, PredictionCycle):
            self.cycle.on_body(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self.in_message = False
        if isinstance(self.cycle, PredictionCycle):
            self.cycle.on_message_complete()
        else:
            super().on_message_complete()

    def pause_reading(self) -> None:
        self.flow.pause_reading()

    def resume_reading(self) -> None:
        self.flow.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.scheduler.forget(self)
        if isinstance(self.cycle, PredictionCycle):
            self.cycle.on_disconnect()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        if self.pipeline or not isinstance(self.cycle, PredictionCycle) or self.transport.is_closing():
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        self.last_response = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._close_later(self.timeout_keep_alive)

    def timeout_keep_alive_handler(self) -> None:
        """Closes the connection if it was idle for so long: its timer is not set anew by each answer."""
        idle = self.loop.time() - self.last_response if self._is_idle() else 0.0
        if isinstance(self.cycle, PredictionCycle) and idle < self.timeout_keep_alive:
            self._close_later(self.timeout_keep_alive - idle)
        else:
            super().timeout_keep_alive_handler()

    def _close_later(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def _begin(self, head: Head, body: bytes) -> None:
        """A plain prediction has come, whole."""
        self.headers = head.headers
        if self.context.models.full and self.admission is None:
            self._refuse_unread()
            return
        cycle = PredictionCycle(self, head.headers, keep_alive=True)
        self.cycle = cycle  # type: ignore[assignment]
        cycle.on_body(body)
        cycle.on_message_complete()

    def _refuse_unread(self) -> None:
        request_log, batcher = self.context.request_log, self.context.models.default.batcher
        batcher.reject()
        self.transport.write(self.cached_429.render(request_log.new_id(), batcher, self.loop.time(), self.server_state))
        request_log.counters.requests[PREDICT, self.cached_429.status] += 1
        self.on_response_complete()

    def _is_idle(self) -> bool:
        """Whether what comes next begins a request: a body may go on after its answer."""
        return not self.in_message and (self.cycle is None or self.cycle.response_complete)

    def _is_plain(self) -> bool:
        return (
            self.url == b"/predict"
            and self.parser.get_method() == b"POST"
            and self.parser.get_http_version() == "1.1"
            and (self.cycle is None or self.cycle.response_complete)
            and not self.flow.write_paused
            and not any(name in UNUSUAL for name, _ in self.headers)
        )
