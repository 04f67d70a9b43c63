"""Notes what the application answers, as the short way does for itself: counts, an id, log lines and spans."""

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.journal import REQUEST_ID_HEADER, Journal
from service.traffic import LEFT, route_of

PHASES = "addnorm.phases"  # where a route leaves those of a prediction, in the scope
EVENTS = "/events"  # streams that pages follow: they take the place of no request


class Noted:
    """ASGI middleware around the application's routes."""

    def __init__(self, app: ASGIApp, journal: Journal) -> None:
        self.app, self.journal = app, journal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status, started = LEFT, time.perf_counter()  # unless an answer begins
        request_id = self.journal.identify(scope["headers"])

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (REQUEST_ID_HEADER, request_id)]
            await send(message)

        traffic = self.journal.traffic
        answering = scope["path"] != EVENTS
        traffic.in_flight += answering
        try:
            await self.app(scope, receive, noting)
        except Exception:
            status = 500
            raise
        finally:
            route = route_of(scope)
            traffic.in_flight -= answering
            traffic.requests[route, status] += 1
            if self.journal.writes:
                self.journal.write(scope, route, status, time.perf_counter() - started, scope.get(PHASES))
