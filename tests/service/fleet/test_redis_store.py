"""The exchange over a real Redis: what is kept there, for how long, and how it is read."""

from random import Random

import pytest

from runtime.artifact import Artifact
from runtime.errors import SettingError
from runtime.graph.batch import EncodedBatch
from runtime.store.shares import FIGURES, WHOLE, Share
from service.fleet.keys import prefix
from service.fleet.redis_store import RedisStore
from tests.service.fleet.conftest import Redis, Service, needs_redis, published

pytestmark = needs_redis


def test_replicas_answer_as_one(services: list[Service], batch: EncodedBatch):
    for number, service in enumerate(services):
        for _ in range(number + 1):
            service.collector.observe(batch, 0.0)
    for service in [*services, *services]:
        service.courier.turn()
    for service in services:
        answer = service.answer()
        assert (answer["requests"], answer["fleet"]["replicas"], answer["fleet"]["trouble"]) == (30, 3, "")
    assert len({service.answer()["verdict"]["sentence"] for service in services}) == 1


def test_the_store_keeps_the_newest_whatever_comes_when(store: RedisStore, artifact: Artifact):
    random = Random(1)
    shares = [Share("window-10", 7, FIGURES, number, b"%d" % number) for number in range(1, 30)]
    for share in random.sample(shares, len(shares)) + random.sample(shares, 9):
        store.push(artifact.manifest, published(share))
    fetched = store.fetch(artifact.manifest, "b", everything=True)
    assert fetched.changed == {("window-10", 7): {("a", FIGURES): shares[-1]}}
    assert [met.replica.name for met in fetched.met] == ["a:8000"]
    assert store.fetch(artifact.manifest, "b", everything=False).changed == {}


def test_keys_expire_with_their_ring(store: RedisStore, artifact: Artifact):
    now = int(store.client.time()[0])
    rings = {"window-10": 10 * 362, "window-300": 300 * 290, "deep-3600": 3600 * 26, "everything": 30 * 86_400}
    store.push(artifact.manifest, published(*(Share(ring, now // 10, WHOLE, 1, b"x") for ring in rings)))
    for ring, seconds in rings.items():
        assert store.client.ttl(f"{prefix(artifact.manifest)}:{ring}:{now // 10}:whole") == seconds


def test_artifact_that_is_forgotten_is_read_from_the_beginning(store: RedisStore, artifact: Artifact):
    now = int(store.client.time()[0])
    store.push(artifact.manifest, published(Share("window-10", now // 10, WHOLE, 1, b"x")))
    assert store.fetch(artifact.manifest, "b", everything=False).changed
    assert not store.fetch(artifact.manifest, "b", everything=False).changed
    store.forget(artifact.manifest.digest)
    assert not (store.epoch or store.revision or store.shelves or store.said or store.cleaned)
    assert store.fetch(artifact.manifest, "b", everything=False).changed


def test_what_has_expired_is_not_named_any_more(store: RedisStore, artifact: Artifact):
    now = int(store.client.time()[0])
    places = [Share("window-10", number, WHOLE, 1, b"x") for number in (3, now // 10)]
    store.push(artifact.manifest, published(*places))
    head = prefix(artifact.manifest)
    store.client.zadd(f"{head}:changes", {"nonsense": 99, "window-10:x:whole": 98})
    store.fetch(artifact.manifest, "b", everything=True)
    assert store.client.zrange(f"{head}:changes", 0, -1) == [b"window-10:%d:whole" % (now // 10)]


def test_a_day_is_read_in_parts(services: list[Service], artifact: Artifact):
    writer, reader = services[0].store, services[1].store
    now = int(writer.client.time()[0]) // 10
    writer.push(artifact.manifest, published(*(Share("window-10", now - n, WHOLE, 1, b"x") for n in range(250))))
    services[1].courier.pushed.clear()
    first = reader.fetch(artifact.manifest, "b", everything=True)
    assert first.more and len(first.changed) == 100
    rest = [reader.fetch(artifact.manifest, "b", everything=False) for _ in range(2)]
    assert [len(each.changed) for each in rest] == [100, 50] and not rest[-1].more


def test_every_artifact_is_cleaned(store: RedisStore, artifact: Artifact, text_artifact: Artifact):
    for each in (artifact, text_artifact):
        store.push(each.manifest, published(Share("window-10", 3, WHOLE, 1, b"x")))
        store.fetch(each.manifest, "b", everything=True)
        assert store.client.zcard(f"{prefix(each.manifest)}:changes") == 0


def test_counts_that_another_start_has_taken_over_go_before_it_is_forgotten(
    services: list[Service], batch: EncodedBatch, artifact: Artifact, redis: Redis, monkeypatch: pytest.MonkeyPatch
):
    """Else whoever starts later would count them twice: it hears of nobody who has replaced them."""
    first, heir, _ = services
    first.collector.observe(batch, 0.0)
    first.courier.turn()
    heir.collector._resume(first.collector._to_keep({}))
    monkeypatch.setattr(heir.collector.store, "replicas", heir.collector.fleet.publication.counted)
    heir.courier.turn()
    monkeypatch.setattr("service.fleet.redis_store.SILENT", -1.0)
    heir.store.cleaned.clear()
    heir.courier.turn()
    names = heir.store.client.hkeys(f"{prefix(artifact.manifest)}:replicas")
    assert not names
    late = Service(artifact, redis.url)
    late.courier.turn()
    assert late.answer()["requests"] == 5
    late.store.close()


def test_url_that_is_none_is_refused_at_the_start():
    with pytest.raises(SettingError, match="store is no URL of a Redis"):
        RedisStore("http://127.0.0.1:6379")
