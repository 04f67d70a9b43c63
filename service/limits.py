"""Refuses request bodies that are too large before they are held in memory."""

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import error_response

MAX_DIGITS = 18  # of a length that is worth reading


class _TooLarge(Exception):
    pass


class BodyLimit:
    """ASGI middleware: answers 413 as soon as a body exceeds `max_bytes`, whether or not its length was announced."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app, self.max_bytes = app, max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and (len(announced) > MAX_DIGITS or int(announced) > self.max_bytes):
            await self.refuse(scope, receive, send)
            return
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.max_bytes:
                raise _TooLarge
            return message

        try:
            await self.app(scope, limited, send)
        except _TooLarge:
            await self.refuse(scope, receive, send)
        except ClientDisconnect:
            pass  # nobody is left to answer

    async def refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = f"The body is larger than the {self.max_bytes} bytes that are allowed: send fewer inputs at once."
        response = error_response(413, message, "body_too_large")
        response.headers["Connection"] = "close"  # what is left of the body is not read
        await response(scope, receive, send)
