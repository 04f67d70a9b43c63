"""How connections are accepted that come together; what every answer of a process bears."""

import asyncio
import errno
import socket
import sys
from collections.abc import Awaitable, Callable

import httpx
import pytest
import uvicorn
import uvloop

from service.process import SETUPS, Server
from service.sockets import listen
from tests.live import Live

TOGETHER = 100


async def application(scope: object, receive: object, send: object) -> None:
    """Is never asked."""


def play(scenario: Callable[[Server, socket.socket], Awaitable[None]]) -> None:
    async def main() -> None:
        listener = listen("127.0.0.1", 0)
        server = Server(uvicorn.Config(application, interface="asgi3", lifespan="off", log_config=None))
        server.on_started = server.on_stop = server.on_shutdown = lambda: None
        task = asyncio.create_task(server.serve(sockets=[listener]))
        async with asyncio.timeout(20):
            while not server.started:
                await asyncio.sleep(0.001)
            await scenario(server, listener)
            server.should_exit = True
            await task

    uvloop.run(main())


def connect(listener: socket.socket, count: int) -> list[socket.socket]:
    """All wait in the kernel's queue when this returns."""
    return [socket.create_connection(listener.getsockname()) for _ in range(count)]


def test_several_connections_are_set_up_in_a_round_of_the_loop_but_not_all():
    """uvloop would take one, so that clients wait; with all, those whose requests were accepted wait."""

    async def scenario(server: Server, listener: socket.socket) -> None:
        clients = connect(listener, TOGETHER)
        seen, rounds = 0, 0
        while (now := len(server.server_state.connections)) < len(clients):
            assert now - seen <= SETUPS + 1, "uvloop takes one, too"
            await asyncio.sleep(0)
            seen, rounds = now, rounds + 1
        assert rounds < TOGETHER / 2
        for client in clients:
            client.close()

    play(scenario)


@pytest.mark.skipif(sys.platform != "linux", reason="others cannot tell")
def test_connections_whose_clients_have_left_are_dropped_at_once():
    """They cost nothing, so that those behind them in the queue have their turn."""
    answered = []

    async def scenario(server: Server, listener: socket.socket) -> None:
        make = server._protocol
        server._protocol = lambda: answered.append(1) or make()  # type: ignore[method-assign, func-returns-value]
        for client in connect(listener, TOGETHER):
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
            client.close()
        (last,) = connect(listener, 1)
        while not server.server_state.connections:
            await asyncio.sleep(0)
        assert len(answered) < 10, "uvloop takes one in a round"
        last.close()

    play(scenario)


def test_refused_connections_are_logged_once_in_a_while(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    """At the limit of open files nobody else says it; those that are open go on."""

    async def scenario(server: Server, _: socket.socket) -> None:
        for _ in range(3):
            server._log_refusal(OSError(errno.EMFILE, "Too many open files"))
        server._log_refusal(OSError(errno.ECONNABORTED, "Software caused connection abort"))
        monkeypatch.setattr(server, "next_refusal_log", 0.0)
        server._log_refusal(OSError(errno.ENFILE, "Too many open files in system"))

    play(scenario)
    assert [record.message.split(":")[0] for record in caplog.records if record.name == "addnorm.service"] == [
        "connections are refused (Too many open files)",
        "connections are refused (Too many open files in system)",
    ]


def test_connections_that_were_accepted_and_not_set_up_are_not_lost_at_the_end():
    async def scenario(server: Server, listener: socket.socket) -> None:
        clients = connect(listener, TOGETHER)
        while not server.accepting:
            await asyncio.sleep(0)
        server.should_exit = True
        for client in clients:
            client.settimeout(5)
            assert await asyncio.to_thread(client.recv, 1) == b"", "closed in order, not reset"
            client.close()
        assert not server.accepting

    play(scenario)


def test_every_answer_forbids_guessing_its_type_and_names_no_server(live: Live):
    for path in ("/", "/predict", "/norm-stats", "/nothing", "/metrics"):
        headers = httpx.get(live.url + path).headers
        assert headers.get_list("x-content-type-options") == ["nosniff"], path
        assert "server" not in headers
