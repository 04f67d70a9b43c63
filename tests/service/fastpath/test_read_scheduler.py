"""A round of the event loop reads on for so long only; what comes later is read in one of the next."""

import asyncio
from collections.abc import Awaitable, Callable

from service.fastpath.read_scheduler import ROUND, ReadScheduler
from tests.service.batching.scenarios import Clock


class Connection:
    """Notes what it reads, which takes a while."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self.clock, self.seconds = clock, seconds
        self.chunks: list[bytes] = []
        self.paused: list[bool] = []

    def read(self, data: bytes) -> None:
        self.chunks.append(data)
        self.clock.wait(self.seconds)

    def pause_reading(self) -> None:
        self.paused.append(True)

    def resume_reading(self) -> None:
        self.paused.append(False)


def play(scenario: Callable[[ReadScheduler, list[Connection]], Awaitable[None]], seconds: float) -> None:
    clock = Clock()
    asyncio.run(scenario(ReadScheduler(clock), [Connection(clock, seconds) for _ in range(6)]))  # type: ignore[arg-type]


def read(connections: list[Connection]) -> list[int]:
    return [len(connection.chunks) for connection in connections]


def test_what_comes_is_read_at_once_while_there_is_time():
    async def scenario(scheduler: ReadScheduler, connections: list[Connection]) -> None:
        for connection in connections:
            scheduler.receive(connection, b"x")
        assert read(connections) == [1] * 6
        assert not scheduler.waiting

    play(scenario, ROUND / 10)


def test_what_comes_late_is_read_in_one_of_the_next_rounds_first_come_first_read():
    async def scenario(scheduler: ReadScheduler, connections: list[Connection]) -> None:
        for connection in connections:
            scheduler.receive(connection, b"x")
        assert read(connections) == [1, 1, 0, 0, 0, 0]
        await asyncio.sleep(0)
        assert read(connections) == [1, 1, 1, 1, 0, 0]
        scheduler.receive(connections[0], b"y")
        assert read(connections)[0] == 1, "the others came before"
        await asyncio.sleep(0)
        assert read(connections) == [1, 1, 1, 1, 1, 1]
        await asyncio.sleep(0)
        assert read(connections) == [2, 1, 1, 1, 1, 1]

    play(scenario, 0.6 * ROUND)


def test_one_that_goes_on_sending_is_paused_until_it_is_read_in_order():
    async def scenario(scheduler: ReadScheduler, connections: list[Connection]) -> None:
        first, second, *_ = connections
        scheduler.receive(first, b"x")
        for chunk in (b"a", b"b", b"c"):
            scheduler.receive(second, chunk)
        assert (second.chunks, second.paused[-1]) == ([], True)
        await asyncio.sleep(0)
        assert (second.chunks, second.paused[-1], first.paused) == ([b"abc"], False, [])

    play(scenario, 2 * ROUND)


def test_connection_that_is_gone_is_not_read():
    async def scenario(scheduler: ReadScheduler, connections: list[Connection]) -> None:
        first, second, *_ = connections
        scheduler.receive(first, b"x")
        scheduler.receive(second, b"x")
        scheduler.forget(second)
        scheduler.forget(first)
        await asyncio.sleep(0)
        assert second.chunks == []

    play(scenario, 2 * ROUND)
