"""Both clients as one: what is asked of the one is asked of the other, and tests are written once."""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar

from addnorm_client import AsyncClient, Client

T = TypeVar("T")
Ask = Callable[..., Any]  # url, what to ask of a client, how to make it -> the answer


def ask_sync(url: str, what: Callable[[Client], T], **arguments: Any) -> T:
    with Client(url, **arguments) as client:
        return what(client)


def ask_async(url: str, what: Callable[[AsyncClient], Awaitable[T]], **arguments: Any) -> T:
    async def main() -> T:
        async with AsyncClient(url, **arguments) as client:
            return await what(client)

    return asyncio.run(main())


@dataclass
class Reply:
    """What the stub answers; status 0 closes the connection without a word."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Stub:
    """A server that answers as it is told, one reply after the other, the last again and again.

    Attributes:
        asked: method, path, headers and body of every request.
    """

    replies: list[Reply]
    url: str = ""
    asked: list[tuple[str, str, dict[str, str], Any]] = field(default_factory=list)


@contextmanager
def stub(*replies: Reply) -> Iterator[Stub]:
    told = Stub(list(replies))

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            told.asked.append((self.command, self.path, headers, json.loads(body) if body else None))
            reply = told.replies.pop(0) if len(told.replies) > 1 else told.replies[0]
            if not reply.status:
                self.close_connection = True
                return
            content = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            self.send_response(reply.status)
            for name, value in (reply.headers | {"Content-Length": str(len(content))}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = answer  # noqa: N815 (http.server's names)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
