"""The request log: what is written about each request beside its answer: counts, an id, log lines, spans if wanted."""

import logging
import re
import secrets
import time
from itertools import count

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.settings import Settings
from service.telemetry.counters import CLIENT_CLOSED_REQUEST, Headers, Phases, RequestCounters, route_of
from service.telemetry.input_log import open_input_log
from service.telemetry.logging import REQUEST_ID
from service.telemetry.tracing import Tracing

access_log = logging.getLogger("addnorm.access")

REQUEST_ID_HEADER = b"x-request-id"
SANE = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")

PHASES = "addnorm.phases"  # where a route leaves those of an inference request, in the scope
EVENTS = "/events"  # streams that pages follow: they take the place of no request


class RequestLog:
    """Counts what this process answers, and writes it down where that is wanted: each request begins, and ends.

    Args:
        tracing: where spans go.

    Attributes:
        counters: the counts.
        writes: whether requests are written down one by one.
        inputs: where a sample of the inputs is kept; None where none is.
    """

    def __init__(self, settings: Settings, tracing: Tracing | None = None) -> None:
        self.counters, self.tracing = RequestCounters(), tracing
        self.access_log, self.slow_seconds = settings.access_log, settings.slow_request
        self.writes = self.access_log or self.slow_seconds is not None or tracing is not None
        self.inputs = open_input_log(settings)
        self._prefix, self._numbers = secrets.token_hex(6).encode() + b"-", count(1)

    def begin(self, headers: Headers, in_flight: int = 1) -> bytes:
        """Counts a request that begins, and gives its id: what its client calls it, if that is sane, else a new one.

        Log lines bear it from here on.

        Args:
            in_flight: 0 for a stream, which takes the place of no request.
        """
        self.counters.in_flight += in_flight
        request_id = b""
        for name, value in headers:
            if name == REQUEST_ID_HEADER and SANE.fullmatch(value):
                request_id = value
        request_id = request_id or self.new_id()
        REQUEST_ID.set(request_id)
        return request_id

    def new_id(self) -> bytes:
        """The id of a request that its client calls nothing."""
        return self._prefix + b"%x" % next(self._numbers)

    def end(
        self,
        request_id: bytes,
        method: str,
        headers: Headers,
        route: str,
        status: int,
        started: float,
        phases: Phases | None = None,
        in_flight: int = 1,
    ) -> None:
        """Counts a request that is over, and writes it down where that is wanted.

        Args:
            route: with names in the place of what the client chose.
            started: when it began (`time.perf_counter`).
            phases: of an inference request that has run; its client may have left all the same.
            in_flight: as it was at `begin`.
        """
        self.counters.in_flight -= in_flight
        self.counters.requests[route, status] += 1
        if phases is not None and status < 400:
            self.counters.observe(phases)
        if self.writes:
            REQUEST_ID.set(request_id)  # others have run meanwhile
            seconds = time.perf_counter() - started
            self._log(method, route, status, seconds)
            if self.tracing is not None:
                self.tracing.record(method, headers, route, status, seconds, phases)

    def _log(self, method: str, route: str, status: int, seconds: float) -> None:
        slow = self.slow_seconds is not None and seconds >= self.slow_seconds
        if slow or self.access_log:
            access_log.log(
                logging.WARNING if slow else logging.INFO,
                "%s%s %s %d in %.3f ms",
                "slow: " if slow else "",
                method,
                route,
                status,
                1e3 * seconds,
                extra={"method": method, "route": route, "status": status, "seconds": round(seconds, 6)},
            )

    def close(self) -> None:
        """Hands over the last spans; waits for that."""
        if self.tracing is not None:
            self.tracing.close()
        if self.inputs is not None:
            self.inputs.close()


class RequestLogMiddleware:
    """ASGI middleware around the application's routes."""

    def __init__(self, app: ASGIApp, request_log: RequestLog) -> None:
        self.app, self.request_log = app, request_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status, started = CLIENT_CLOSED_REQUEST, time.perf_counter()  # unless an answer begins
        method, headers, in_flight = scope["method"], scope["headers"], int(scope["path"] != EVENTS)
        request_id = self.request_log.begin(headers, in_flight)

        async def logged_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (REQUEST_ID_HEADER, request_id)]
            await send(message)

        try:
            await self.app(scope, receive, logged_send)
        except Exception:
            status = 500
            raise
        finally:
            phases = scope.get(PHASES)
            self.request_log.end(request_id, method, headers, route_of(scope), status, started, phases, in_flight)
