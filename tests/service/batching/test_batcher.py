"""The batcher: requests join the batch that forms, are split, merged and treated fairly."""

import asyncio
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

from service.batching.batcher import Batcher
from service.batching.queue import MAX_AGE, Answer
from tests.service.batching.scenarios import (
    Clock,
    FakeRun,
    Held,
    both,
    both_loops,
    make,
    play,
    play_held,
    rows,
    submit,
    submit_all,
    sums,
)

# Continuous batching


def test_requests_that_come_while_a_batch_runs_are_batched_together():
    async def scenario(batcher: Batcher, run: Held) -> None:
        tasks = await submit_all(batcher, [rows([2]), rows([3, 4]), rows([5])])
        run.go.set()
        await asyncio.gather(*tasks)
        assert run.batches == [[[1]], [[2], [3, 4], [5]]]

    play_held(scenario)


@both_loops
def test_requests_that_reach_their_sockets_while_a_batch_runs_in_the_loop_join_the_next(
    run_loop: Callable[[Any], None],
):
    """The second batch has the row that was left, and all that could be read meanwhile."""
    pairs = [socket.socketpair() for _ in range(8)]
    tasks: list[asyncio.Task[Answer]] = []

    def send() -> None:
        if len(run.batches) == 1:
            for client, _ in pairs:
                client.send(b"x")

    run = FakeRun(during=send)
    batcher = make(run, tokens=20)

    class Server(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            tasks.append(asyncio.create_task(submit(batcher, rows([2]))))

    async def main() -> None:
        loop = asyncio.get_running_loop()
        transports = [(await loop.connect_accepted_socket(Server, server))[0] for _, server in pairs]
        await submit(batcher, rows([1] * 20, [1]))
        await asyncio.gather(*tasks)
        await batcher.close()
        for transport in transports:
            transport.close()

    run_loop(main())
    for client, _ in pairs:
        client.close()
    assert run.batches == [[[1] * 20], [[1], *[[2]] * 8]]


def test_the_event_loop_goes_on_between_batches():
    async def scenario(batcher: Batcher, run: FakeRun) -> None:
        seen = []

        async def watch() -> None:
            while len(run.batches) < 6:
                seen.append(len(run.batches))
                await asyncio.sleep(0)

        await asyncio.gather(watch(), submit(batcher, rows(*[[1]] * 6)))
        assert set(seen) == set(range(6))

    play(scenario, tokens=1)


def test_the_event_loop_goes_on_while_a_batch_runs_in_a_thread():
    async def scenario(_: Batcher, run: Held) -> None:
        for _ in range(100):
            await asyncio.sleep(0)
        assert run.batches == [[[1]]]
        assert not run.go.is_set()

    play_held(scenario)


def test_a_batch_in_the_loop_runs_in_its_thread():
    threads = []
    play(lambda batcher, _: submit(batcher, rows([1])), FakeRun(during=lambda: threads.append(threading.get_ident())))
    assert threads == [threading.get_ident()]


@both
@pytest.mark.parametrize(
    ("tokens", "batches"),
    [(5, [[[2, 2], [3, 3, 3]], [[4] * 6], [[5]]]), (9, [[[2, 2], [3, 3, 3]], [[4] * 6, [5]]]), (1, None)],
)
def test_batches_stay_within_their_tokens(tokens: int, batches: list[list[list[int]]] | None, offload: bool):
    requests = [[2, 2], [3, 3, 3], [4] * 6, [5]]

    async def scenario(batcher: Batcher, run: FakeRun) -> None:
        await asyncio.gather(*await submit_all(batcher, [rows(request) for request in requests]))
        assert run.batches == (batches or [[request] for request in requests])

    play(scenario, tokens=tokens, offload=offload)


# Split and merge


@both
def test_every_request_gets_its_own_rows_in_order(offload: bool):
    async def scenario(batcher: Batcher, _: FakeRun) -> None:
        tasks = await submit_all(batcher, [rows([2, 2], [3]), rows([4]), rows([5], [6, 6, 6])])
        batches = [answer.batch for answer in await asyncio.gather(*tasks)]
        assert [batch.logits.ravel().tolist() for batch in batches] == [[4, 3], [4], [5, 18]]
        assert [batch.norm_statistics.ravel().tolist() for batch in batches] == [[2, 2, 3], [4], [5, 6, 6, 6]]
        assert [batch.lengths.tolist() for batch in batches] == [[2, 1], [1], [1, 3]]

    play(scenario, offload=offload)


@both
def test_a_request_of_many_rows_is_split_and_merged(offload: bool):
    async def scenario(batcher: Batcher, run: FakeRun) -> None:
        large, small = await submit_all(batcher, [rows(*[[number] * 2 for number in range(5)]), rows([7])])
        assert sums(await small) == [7]
        batch = (await large).batch
        assert run.batches == [[[0, 0], [1, 1], [7]], [[2, 2], [3, 3]], [[4, 4]]]
        assert batch.logits.ravel().tolist() == [0, 2, 4, 6, 8]
        assert batch.norm_statistics.ravel().tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
        assert batch.lengths.tolist() == [2] * 5
        assert batch.feature_moments.shape == (0, 2, 1)

    play(scenario, tokens=5, offload=offload)


def test_an_answer_says_how_long_it_waited_and_ran():
    clock = Clock()

    async def scenario(batcher: Batcher, run: FakeRun) -> None:
        first, split, last = await submit_all(batcher, [rows([1] * 4), rows([2], [2] * 3, [2] * 4), rows([3])])
        assert (await first)[1:] == (0.0, 2.0)
        assert (await last)[1:] == (2.0, 2.0)
        assert (await split)[1:] == (2.0, 6.0)
        assert run.batches == [[[1] * 4], [[2], [3]], [[2] * 3], [[2] * 4]]

    play(scenario, FakeRun(during=lambda: clock.wait(2.0)), tokens=4, clock=clock)


# Fairness and age bound


@both
def test_a_large_request_does_not_hold_up_small_ones(offload: bool):
    async def scenario(batcher: Batcher, run: FakeRun) -> None:
        requests = await submit_all(batcher, [rows(*[[9]] * 50), *[rows([number]) for number in range(4)]])
        answered: list[asyncio.Task[Answer]] = []
        for request in requests:
            request.add_done_callback(answered.append)
        await asyncio.gather(*requests)
        await asyncio.sleep(0)
        assert answered == [*requests[1:], requests[0]]
        assert run.batches[0] == [*[[9]] * 6, [0], [1], [2], [3]], "they share the first batch"
        assert len(run.batches) == 6

    play(scenario, tokens=10, offload=offload)


def test_an_endless_flow_of_small_requests_does_not_starve_a_large_one():
    clock = Clock()

    async def scenario(batcher: Batcher, run: FakeRun) -> None:
        async def client() -> None:
            while not large.done():
                await submit(batcher, rows([1]))

        large = asyncio.create_task(submit(batcher, rows(*[[9]] * 30)))
        clients = [asyncio.create_task(client()) for _ in range(40)]
        await large
        # in turn the large one gets a row of every fourth batch or so, past its age half of each
        until_aged = round(MAX_AGE / 0.01)
        assert until_aged < len(run.batches) <= until_aged + 30 / 5 + 2
        await asyncio.gather(*clients)

    play(scenario, FakeRun(during=lambda: clock.wait(0.01)), tokens=10, clock=clock)
