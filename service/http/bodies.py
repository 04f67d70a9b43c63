"""Request bodies: those that are too large are refused before they are held in memory, others read by hand."""

from fastapi.responses import Response
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime.errors import TooLarge, Unsupported
from runtime.words import quoted
from service.http.errors import domain_response
from service.telemetry.counters import Headers

MAX_DIGITS = 18  # of a length that is worth reading


def announces_more(headers: Headers, max_bytes: int) -> bool:
    """Whether a request says itself that its body is larger."""
    announced = dict(headers).get(b"content-length", b"0")
    return announced.isdigit() and (len(announced) > MAX_DIGITS or int(announced) > max_bytes)


def coded(path: str, headers: Headers) -> Unsupported | None:
    """Why a request's Content-Encoding is not taken; /v2/models/…/infer decodes bodies, or says so itself."""
    for name, value in headers:
        if name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            if path.startswith("/v2/") and path.endswith("/infer"):
                return None
            encoding = value.decode("latin-1")
            return Unsupported(
                f"Content-Encoding {quoted(encoding)} is not supported here, /v2/models/…/infer takes gzip and "
                "deflate: send the body as it is."
            )
    return None


async def read_body(receive: Receive) -> bytes:
    """A request's whole body.

    Raises:
        TooLarge: more came than BodyLimitMiddleware lets through.
        ClientDisconnect: the client left while it sent.
    """
    chunks: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        if not message.get("more_body", False):
            return b"".join([*chunks, chunk]) if chunks else chunk
        chunks.append(chunk)


class BodyLimitMiddleware:
    """ASGI middleware: answers 413 as soon as a body exceeds `max_bytes`, whether or not its length was announced.

    Where nothing would inflate a body, one that says that it is compressed gets 501.
    """

    # Starlette's max_body_size answers every announced length itself, in plain text and past all handlers and
    # middleware: without our error body and a count.

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app, self.max_bytes = app, max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if (refusal := coded(scope["path"], scope["headers"])) is not None:
            await domain_response(refusal, scope["path"])(scope, receive, send)
            return
        if announces_more(scope["headers"], self.max_bytes):
            response = domain_response(TooLarge(self.max_bytes), scope["path"])
            if b"expect" in dict(scope["headers"]):
                response.headers["Connection"] = "close"  # its client sends no body now
            await response(scope, receive, send)
            return
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.max_bytes:
                raise TooLarge(self.max_bytes)
            return message

        try:
            await self.app(scope, limited, send)
        except TooLarge as error:
            await domain_response(error, scope["path"])(scope, receive, send)
        except ClientDisconnect:
            pass  # nobody is left to answer


class JSONBytes(Response):
    """JSON that is written already."""

    media_type = "application/json"
