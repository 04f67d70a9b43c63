"""Connections to a service, for tests of what is read from them and written to them."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

from service.inference.engine import Engine
from service.inference.registry import ModelRegistry
from service.settings import Settings
from tests.apps import make_config

TEXT = b'{"inputs": "what is my balance"}'
Answer = tuple[int, dict[str, str], Any]


def request(body: bytes, *headers: bytes, target: bytes = b"/predict", version: bytes = b"1.1") -> bytes:
    head = [b"POST %s HTTP/%s" % (target, version), b"Host: x", b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


class Client:
    """A connection to the service."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, content: bytes) -> Answer:
        self.writer.write(content)
        return await self.answer()

    async def answer(self) -> Answer:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = await self.reader.readexactly(int(headers["content-length"]))
        return int(head[0].split()[1]), headers, json.loads(body)


Connect = Callable[[], Awaitable[Client]]


@asynccontextmanager
async def serving(settings: Settings, models: ModelRegistry) -> AsyncIterator[tuple[Connect, uvicorn.Server]]:
    """A service on a free port."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(make_config(settings, models))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    clients: list[Client] = []

    async def connect() -> Client:
        clients.append(Client(*await asyncio.open_connection(*listener.getsockname())))
        return clients[-1]

    try:
        async with asyncio.timeout(20):
            yield connect, server
    finally:
        server.should_exit = True
        for client in clients:
            client.writer.close()
        await task


def play(settings: Settings, engine: Engine, scenario: Callable[[Connect, uvicorn.Server], Awaitable[None]]) -> None:
    async def main() -> None:
        async with serving(settings, ModelRegistry(engine)) as served:
            await scenario(*served)

    asyncio.run(main())


def unmeasured(answer: Answer) -> tuple[int, set[str], Any]:
    """Without what differs from request to request."""
    status, headers, body = answer
    return status, set(headers), body
