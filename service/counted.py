"""Counts requests by route and status, but for those that the fast route answers and counts itself."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.traffic import LEFT, OTHER, Traffic


class Counted:
    """ASGI middleware: counts what the application answers."""

    def __init__(self, app: ASGIApp, traffic: Traffic) -> None:
        self.app, self.traffic = app, traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = LEFT  # unless an answer begins

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self.traffic.in_flight += 1
        try:
            await self.app(scope, receive, noting)
        except Exception:
            status = 500
            raise
        finally:
            self.traffic.in_flight -= 1
            self.traffic.requests[route_of(scope), status] += 1


def route_of(scope: Scope) -> str:
    """The path of the route that answered, with names in the place of what the client chose."""
    return getattr(scope.get("route"), "path", OTHER)
