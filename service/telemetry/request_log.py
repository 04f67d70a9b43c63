"""The request log: what is written about each request beside its answer: counts, an id, log lines, spans if wanted."""

import logging
import re
import secrets
import time
from itertools import count

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.settings import Settings
from service.telemetry.counters import LEFT, Phases, Traffic, route_of
from service.telemetry.logging import REQUEST_ID
from service.telemetry.tracing import Tracing

access_log = logging.getLogger("addnorm.access")

Headers = list[tuple[bytes, bytes]]
REQUEST_ID_HEADER = b"x-request-id"
SANE = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")

PHASES = "addnorm.phases"  # where a route leaves those of a prediction, in the scope
EVENTS = "/events"  # streams that pages follow: they take the place of no request


class RequestLog:
    """Notes what this process answers.

    Args:
        tracing: where spans go.

    Attributes:
        traffic: the counts.
        writes: whether requests are written down one by one.
    """

    def __init__(self, settings: Settings, tracing: "Tracing | None" = None) -> None:
        self.traffic, self.tracing = Traffic(), tracing
        self.access_log, self.slow_seconds = settings.access_log, settings.slow_request
        self.writes = self.access_log or self.slow_seconds is not None or tracing is not None
        self._prefix, self._numbers = secrets.token_hex(6).encode() + b"-", count(1)

    def identify(self, headers: Headers) -> bytes:
        """The id of the request that begins: what its client calls it, if that is sane, else a new one.

        Log lines bear it from here on.
        """
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

    def write(self, scope: Scope, route: str, status: int, seconds: float, phases: "Phases | None" = None) -> None:
        """Notes down a request that is over; called where `writes` says so.

        Args:
            route: with names in the place of what the client chose.
            seconds: how long it took.
            phases: of a prediction.
        """
        slow = self.slow_seconds is not None and seconds >= self.slow_seconds
        if slow or self.access_log:
            method = scope["method"]
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
        if self.tracing is not None:
            self.tracing.record(scope, route, status, seconds, phases)

    def close(self) -> None:
        """Hands over the last spans; waits for that."""
        if self.tracing is not None:
            self.tracing.close()


class RequestLogMiddleware:
    """ASGI middleware around the application's routes."""

    def __init__(self, app: ASGIApp, request_log: RequestLog) -> None:
        self.app, self.request_log = app, request_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status, started = LEFT, time.perf_counter()  # unless an answer begins
        request_id = self.request_log.identify(scope["headers"])

        async def logged_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (REQUEST_ID_HEADER, request_id)]
            await send(message)

        traffic = self.request_log.traffic
        answering = scope["path"] != EVENTS
        traffic.in_flight += answering
        try:
            await self.app(scope, receive, logged_send)
        except Exception:
            status = 500
            raise
        finally:
            route = route_of(scope)
            traffic.in_flight -= answering
            traffic.requests[route, status] += 1
            if self.request_log.writes:
                self.request_log.write(scope, route, status, time.perf_counter() - started, scope.get(PHASES))
