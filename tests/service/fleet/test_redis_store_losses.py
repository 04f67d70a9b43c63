"""A Redis that lost all, went back in time or failed half-way is filled again, and nothing is counted twice."""

import json
from typing import Any

import pytest

from runtime.artifact import Artifact, read_artifact
from runtime.graph.batch import EncodedBatch
from service.fleet.exchange import FleetError
from service.fleet.keys import prefix
from service.norm_stats.interface import AllLayers, WindowQuery
from service.settings import EMBEDDED
from tests.service.fleet.conftest import Redis, Service, needs_redis

pytestmark = needs_redis


@pytest.mark.parametrize("emptied", ["restarted", "flushed"])
def test_store_that_lost_all_is_filled_again_the_dead_included(
    services: list[Service], batch: EncodedBatch, redis: Redis, emptied: str
):
    for service in services:
        service.collector.observe(batch, 0.0)
    for service in [*services, *services]:
        service.courier.turn()
    _, *alive = services  # the first has ended
    if emptied == "restarted":
        redis.stop()
        alive[0].courier.turn()
        assert "cannot be reached" in alive[0].answer()["fleet"]["trouble"]
        redis.start()
    else:
        alive[0].store.client.flushall()
    alive[0].collector.observe(batch, 0.0)
    for service in [*alive, *alive, *alive]:
        service.courier.turn()
    late = Service(read_artifact(EMBEDDED), redis.url)
    late.courier.turn()
    for service in (*alive, late):
        assert (service.answer()["requests"], service.answer()["fleet"]["trouble"]) == (20, "")
    late.store.close()


def test_store_that_fails_in_the_middle_of_reading_has_lost_nothing(
    services: list[Service], batch: EncodedBatch, monkeypatch: pytest.MonkeyPatch
):
    writer, reader, _ = services
    start = writer.collector.recorder.clock()
    for number in range(300):
        writer.collector.recorder.clock = lambda number=number: start - 3000 + 10 * number
        writer.collector.observe(batch, 0.0)
    writer.courier.turn()
    fetch, calls = reader.store.fetch, [0]

    def failing(*arguments: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == 3:
            raise FleetError("gone in the middle")
        return fetch(*arguments, **options)

    monkeypatch.setattr(reader.store, "fetch", failing)
    reader.courier.turn()
    assert reader.answer()["fleet"]["trouble"] == "gone in the middle"
    reader.courier.turn()
    report = json.loads(reader.collector.report(AllLayers(WindowQuery("1h"))))
    assert report["window"]["requests"] == 1500 and "gone in the middle" not in report["fleet"]["trouble"]


def test_refill_that_fails_in_the_middle_is_done_again(
    services: list[Service], batch: EncodedBatch, redis: Redis, monkeypatch: pytest.MonkeyPatch
):
    for service in services:
        service.collector.observe(batch, 0.0)
    for service in [*services, *services]:
        service.courier.turn()
    _, left, other = services  # the first has ended, and only one has known it
    other.store.said.clear()
    left.store.client.flushall()
    put, calls = left.store._put, [0]

    def failing(*arguments: Any) -> bytes:
        calls[0] += 1
        if calls[0] == 2:
            raise FleetError("gone in the middle")
        return put(*arguments)

    monkeypatch.setattr(left.store, "_put", failing)
    for service in [left, left, other, left]:
        service.courier.turn()
    assert left.answer()["fleet"]["trouble"] == "" and left.answer()["requests"] == 15
    late = Service(read_artifact(EMBEDDED), redis.url)
    late.courier.turn()
    assert late.answer()["requests"] == 15
    late.store.close()


def test_store_that_went_back_in_time_is_told_all_again(services: list[Service], batch: EncodedBatch):
    """From a snapshot that has the same epoch, of a server whose process this replica may not ask for."""
    one, other, late = services
    keys = one.store.client
    one.collector.observe(batch, 0.0)
    for service in (one, other):
        service.courier.turn()
    kept = {key: keys.dump(key) for key in keys.scan_iter()}
    one.collector.observe(batch, 0.0)
    for service in (one, other):
        service.courier.turn()
    keys.flushall()
    for key, content in kept.items():
        keys.restore(key, 0, content)
    for service in (one, one, late):
        service.courier.turn()
    assert late.answer()["requests"] == 10


def test_counter_that_was_deleted_goes_on(services: list[Service], batch: EncodedBatch, artifact: Artifact):
    one, other, _ = services
    for _ in range(3):
        one.collector.observe(batch, 0.0)
        for service in (one, other):
            service.courier.turn()
    one.store.client.delete(f"{prefix(artifact.manifest)}:revision")
    one.collector.observe(batch, 0.0)
    for service in (one, other):
        service.courier.turn()
    assert other.answer()["requests"] == 20
