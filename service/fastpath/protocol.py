"""A short way from the socket to the batcher, for plain requests to /predict, /embed and others that run a model.

uvicorn's protocol makes a scope, an event and a task of every request, and its answer passes the web framework. A plain
request needs none of them: this subclass hands its body to the batcher where its last byte is read, and the
batcher's answer to the transport. All else, and whatever is unusual about a request, goes uvicorn's way to the
application, which answers alike. docs/benchmarks.md says what that saves.
"""

from collections.abc import Mapping
from typing import Any

from service.fastpath.cycle import Cached429, InferenceCycle
from service.fastpath.head_cache import END, Head, HeadCache
from service.fastpath.read_scheduler import ReadScheduler
from service.http.admission import Admission
from service.http.bodies import announces_more
from service.http.limits import Deadlines
from service.http.origins import allows
from service.http.protocol import BoundedProtocol
from service.inference.engine import Engine
from service.inference.request import ServingContext, Understand

UNUSUAL = frozenset(
    {b"content-encoding", b"expect", b"origin", b"sec-fetch-site"}
)  # headers that the application answers to


class Protocol(BoundedProtocol):
    """One connection.

    Args:
        context: what answers.
        short_ways: what makes requests of their bodies, by path.
        admission: checks API keys and the requests in flight; None where neither is limited.
        hosts: the names that requests may be sent to; None for all.
        head_cache: request heads, as they were parsed on any connection.
        cached_429: the response to requests that are refused unread.
        scheduler: decides when this connection is read.
        deadlines: closes it where its client keeps silent.
    """

    def __init__(
        self,
        context: ServingContext,
        short_ways: Mapping[bytes, Understand],
        admission: Admission | None,
        hosts: frozenset[str] | None,
        head_cache: HeadCache,
        cached_429: Cached429,
        scheduler: ReadScheduler,
        deadlines: Deadlines,
        **uvicorns: Any,
    ) -> None:
        super().__init__(deadlines, context.request_log.counters, **uvicorns)
        self.context, self.short_ways, self.admission = context, short_ways, admission
        self.hosts = hosts
        self.head_cache, self.cached_429, self.scheduler = head_cache, cached_429, scheduler
        self.head = b""  # of the message that may begin with what is being read

    def data_received(self, data: bytes) -> None:
        self.scheduler.receive(self, data)

    def is_held_back(self) -> bool:
        return super().is_held_back() or self in self.scheduler.waiting

    def read(self, data: bytes) -> None:
        self.head = b""
        if self._is_idle():
            start = data.find(END) + len(END)
            self.head = data[:start]
            known = self.head_cache.known.get(self.head)
            if known is not None and len(data) - start == known.length and not self.flow.write_paused:
                self._begin(known, data[start:])
                return
        super().read(data)

    def begin_request(self) -> None:
        head, self.head = self.head, b""
        if not self._is_plain():
            super().begin_request()
            return
        keep_alive: bool = self.parser.should_keep_alive()
        self.running = InferenceCycle(self, self.url, self.headers, keep_alive)
        self.cycle = self.running
        if head and keep_alive:
            self.head_cache.learn(head, self.headers, self.url)

    def take_body(self, body: bytes) -> None:
        if isinstance(self.cycle, InferenceCycle):
            self.cycle.on_body(body)
        else:
            super().take_body(body)

    def complete_request(self) -> None:
        if isinstance(self.cycle, InferenceCycle):
            self.cycle.on_message_complete()
        else:
            super().complete_request()

    def pause_reading(self) -> None:
        self.flow.pause_reading()

    def resume_reading(self) -> None:
        self.flow.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.scheduler.forget(self)
        super().connection_lost(exc)

    def drop(self, cycle: Any) -> None:
        if isinstance(cycle, InferenceCycle):
            cycle.on_disconnect()
        else:
            super().drop(cycle)

    def _begin(self, head: Head, body: bytes) -> None:
        """A plain request has come, whole."""
        self.headers = head.headers
        full, last = self.context.models.full, self.is_last()
        if full is not None and self.admission is None and not last:
            self._refuse_unread(full, head.url)
            return
        cycle = InferenceCycle(self, head.url, head.headers, keep_alive=True)
        if last:
            self.lifetime.end_with(cycle)
        self.running = cycle
        self.cycle = self.running
        cycle.on_body(body)
        cycle.on_message_complete()

    def _refuse_unread(self, engine: Engine, url: bytes) -> None:
        request_log, batcher, path = self.context.request_log, engine.batcher, url.decode()
        batcher.reject()
        request_id, now = request_log.new_id(), self.loop.time()
        self.transport.write(self.cached_429.render(request_id, path, batcher, now, self.server_state))
        request_log.counters.requests[path, self.cached_429.status] += 1
        self.on_response_complete()

    def _is_idle(self) -> bool:
        """Whether what comes next begins a request: a body may go on after its answer."""
        return self.running is None and not self.in_message and self.rejection is None and not self.lingering

    def _is_plain(self) -> bool:
        return (
            self.url in self.short_ways
            and self.parser.get_method() == b"POST"
            and self.parser.get_http_version() == "1.1"
            and self.running is None
            and not self.flow.write_paused
            and not any(name in UNUSUAL for name, _ in self.headers)
            and not announces_more(self.headers, self.context.max_bytes)
            and allows(self.hosts, self.headers)
        )
