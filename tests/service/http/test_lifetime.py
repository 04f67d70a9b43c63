"""Connections that are old are closed with an answer, not all at once, and no request is lost by it."""

import asyncio
import time
from typing import Any

import pytest
import uvicorn

import service.http.limits
from service.http.limits import JITTER, Deadlines, Lifetime
from service.inference.engine import Engine
from service.settings import Settings
from tests.conftest import settings_for
from tests.service.fastpath.connections import TEXT, Client, Connect, play, request

WAYS = [b"/predict", b"/predict?way=long"]
LIVE = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def settings(text_artifact: Any) -> Settings:
    return settings_for(text_artifact)


def limited(settings: Settings, **limits: float) -> Settings:
    return settings.model_copy(update=limits)


async def is_closed(client: Client) -> bool:
    return await client.reader.read() == b""


@pytest.mark.parametrize("target", WAYS)
def test_connection_ends_after_so_many_requests(settings: Settings, text_engine: Engine, target: bytes) -> None:
    async def scenario(connect: Connect, _: uvicorn.Server) -> None:
        for _ in range(2):  # the second time, the head is known
            client = await connect()
            for last in (False, False, True):
                status, headers, _ = await client.ask(request(TEXT, target=target))
                assert status == 200 and (headers.get("connection") == "close") is last
            assert await is_closed(client)

    play(limited(settings, connection_requests=3), text_engine, scenario)


@pytest.mark.parametrize("target", WAYS)
def test_connection_ends_with_the_first_answer_after_its_age(
    settings: Settings, text_engine: Engine, target: bytes
) -> None:
    async def scenario(connect: Connect, _: uvicorn.Server) -> None:
        client, begun = await connect(), time.monotonic()
        while (answer := await client.ask(request(TEXT, target=target)))[1].get("connection") != "close":
            assert answer[0] == 200
            await asyncio.sleep(0.01)
        assert 0.25 < time.monotonic() - begun < 10
        assert answer[0] == 200 and await is_closed(client)
        idle = await connect()
        await asyncio.sleep(0.5)
        answer = await idle.ask(request(TEXT, target=target))  # an idle one is not closed under a request
        assert (answer[0], answer[1]["connection"]) == (200, "close")

    play(limited(settings, connection_age=0.3), text_engine, scenario)


@pytest.mark.parametrize("target", WAYS)
@pytest.mark.parametrize("together", [2, 7])
def test_requests_that_are_sent_together_are_all_answered(
    settings: Settings, text_engine: Engine, target: bytes, together: int
) -> None:
    async def scenario(connect: Connect, _: uvicorn.Server) -> None:
        client = await connect()
        client.writer.write(request(TEXT, target=target) * together)
        answers = [await client.answer() for _ in range(together)]
        assert [status for status, _, _ in answers] == [200] * together
        assert [headers.get("connection") for _, headers, _ in answers] == [None] * (together - 1) + ["close"]
        assert await is_closed(client)

    play(limited(settings, connection_requests=1), text_engine, scenario)


def test_clients_that_connect_anew_lose_nothing_and_do_not_leave_at_once(
    settings: Settings, text_engine: Engine
) -> None:
    """Forty clients that connected together and ask all the time, over connections of about half a second."""
    left: list[float] = []

    async def ask(connect: Connect, until: float) -> int:
        client, answered, first = await connect(), 0, True
        while time.monotonic() < until:
            status, headers, _ = await client.ask(request(TEXT))
            assert status == 200
            answered += 1
            if headers.get("connection") == "close":
                if first:
                    left.append(time.monotonic())
                    first = False
                assert await is_closed(client)
                client = await connect()
            await asyncio.sleep(0.005)
        return answered

    async def scenario(connect: Connect, _: uvicorn.Server) -> None:
        clients = 40
        until = time.monotonic() + 1.2
        answered = await asyncio.gather(*(ask(connect, until) for _ in range(clients)))
        assert min(answered) > 0
        client = await connect()
        traffic = (await client.ask(b"GET /traffic HTTP/1.1\r\nHost: x\r\n\r\n"))[2]
        assert traffic["total"]["requests"] == {"/predict": {"200": sum(answered)}}

    play(limited(settings, connection_age=0.5), text_engine, scenario)
    assert len(left) == 40
    most = max(sum(moment <= other < moment + 0.02 for other in left) for moment in left)
    assert most < 40 and max(left) - min(left) > 0.05  # a tenth sooner or later: over 100 ms


def test_full_service_sends_old_connections_elsewhere(
    settings: Settings, text_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(text_engine.batcher), "full", property(lambda _: True))

    async def scenario(connect: Connect, _: uvicorn.Server) -> None:
        client = await connect()
        answers = [await client.ask(request(TEXT)) for _ in range(3)]
        assert [status for status, _, _ in answers] == [429] * 3
        assert [headers.get("connection") for _, headers, _ in answers] == [None, None, "close"]

    play(limited(settings, connection_requests=3), text_engine, scenario)


def test_ages_differ_by_a_tenth_at_most() -> None:
    deadlines = Deadlines(1.0, 1.0, age=60.0)
    ages = [deadlines.lifetime(now=1000.0).until - 1000.0 for _ in range(1000)]
    assert 60 * (1 - JITTER) <= min(ages) < 56 and 64 < max(ages) <= 60 * (1 + JITTER)
    assert Deadlines(1.0, 1.0).lifetime(0.0).until == service.http.limits.math.inf
    assert not any(Deadlines(1.0, 1.0).lifetime(0.0).is_over(1e9) for _ in range(1000))


def test_answer_that_has_begun_stays_the_last() -> None:
    class Cycle:
        keep_alive, response_started = True, False

    lifetime, before, behind = Lifetime(0.0, 1), Cycle(), Cycle()
    lifetime.end_with(before)
    before.response_started = True  # it said `Connection: close`
    lifetime.end_with(behind, before)
    assert not before.keep_alive and not behind.keep_alive
