"""The exchange over a real Redis: what is kept there, what is refused, and what is said where it cannot be used."""

import json
import socket
import threading
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from runtime.artifact import Artifact, read_artifact
from runtime.errors import SettingError
from runtime.graph.batch import EncodedBatch
from runtime.graph.encoder import Encoder
from runtime.graph.texts import make_input_encoder
from runtime.store.shares import FIGURES, WHOLE, Published, Share
from runtime.store.shares import Replica as Who
from service.fleet.courier import Courier
from service.fleet.exchange import FleetError
from service.fleet.keys import parse, prefix
from service.fleet.redis_store import SEQUENCE, RedisStore
from service.norm_stats.interface import AllLayers, WindowQuery
from service.norm_stats.pool import CollectorPool
from service.settings import EMBEDDED, Settings
from tests.helpers import TEXTS
from tests.service.fleet.conftest import Redis, free_port, needs_redis

pytestmark = needs_redis


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    return read_artifact(EMBEDDED)


@pytest.fixture(scope="module")
def batch(artifact: Artifact) -> EncodedBatch:
    return Encoder(artifact).run([item.tokens for item in make_input_encoder(artifact).encode(TEXTS[:5])])


@pytest.fixture
def store(redis: Redis) -> Iterator[RedisStore]:
    store = RedisStore(redis.url)
    yield store
    store.close()


class Service:
    """A replica without its HTTP, with a connection of its own."""

    def __init__(self, artifact: Artifact, url: str) -> None:
        self.pool = CollectorPool(Settings(store=url, device="cpu"))
        self.collector = self.pool.open(artifact)
        self.store = RedisStore(url)
        self.courier = Courier(self.store, self.pool)

    def answer(self) -> Any:
        return json.loads(self.collector.report(AllLayers(WindowQuery("all"))))


@pytest.fixture
def services(artifact: Artifact, redis: Redis) -> Iterator[list[Service]]:
    services = [Service(artifact, redis.url) for _ in range(3)]
    yield services
    for service in services:
        service.store.close()


def published(*shares: Share, who: str = "a") -> Published:
    return Published(
        Who(who, f"{who}:8000", 5.0, sequence=max((share.sequence for share in shares), default=0)), 5.0, shares
    )


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


def test_garbage_under_our_keys_is_left_out_and_named(services: list[Service], batch: EncodedBatch, artifact: Artifact):
    one, other, _ = services
    other.collector.observe(batch, 0.0)
    other.courier.turn()
    head = prefix(artifact.manifest)
    one.store.client.hset(f"{head}:everything:0:whole", "x", b"1".zfill(SEQUENCE) + b"garbage")
    one.store.client.hset(f"{head}:everything:0:whole", b"\xff", b"short")
    one.store.client.hset(f"{head}:replicas", "x", b"garbage")
    one.courier.turn()
    answer = one.answer()
    assert answer["requests"] == 5
    assert "holds no replica under" in answer["fleet"]["trouble"] and "is not a state" in answer["fleet"]["trouble"]


@pytest.mark.parametrize(
    "said", [b"nan 5 ", b"5 inf ", b"-1 5 ", b"1e400 5 ", b"5 1e11 ", b" ", b"5 5 [" + b"[" * 100_000, b"5 5 \xff"]
)
def test_replica_that_is_none_is_named_and_the_others_count(
    services: list[Service], batch: EncodedBatch, artifact: Artifact, said: bytes
):
    one, other, _ = services
    other.collector.observe(batch, 0.0)
    other.courier.turn()
    what = Who("x", "x:8000", 5.0).to_json() if said[-1:] == b" " else b""
    one.store.client.hset(f"{prefix(artifact.manifest)}:replicas", "x", said + what)
    one.courier.turn()
    fleet = one.answer()["fleet"]
    assert (one.answer()["requests"], fleet["replicas"]) == (5, 2)
    assert "holds no replica under" in fleet["trouble"] and "delete it (HDEL)" in fleet["trouble"]
    assert b"x" not in one.store.said[artifact.manifest.digest]


def test_absurd_changes_are_passed_over_and_the_others_count(
    services: list[Service], batch: EncodedBatch, artifact: Artifact
):
    one, other, _ = services
    head, now = prefix(artifact.manifest), int(one.store.client.time()[0])
    ahead = b"window-10:%d:whole" % (now // 10 + 400)
    other.collector.observe(batch, 0.0)
    other.courier.turn()
    changes = dict.fromkeys([*ABSURD, ahead], 5) | {"window-10:7:whole": "inf", "window-10:8:whole": 1e300}
    one.store.client.zadd(f"{head}:changes", changes)
    one.store.client.hset(f"{head}:deep-300:7:figures", "x", b"1".zfill(SEQUENCE) + b"garbage")
    one.courier.turn()
    assert (one.answer()["requests"], one.answer()["fleet"]["trouble"]) == (5, "")
    held = one.store.shelves[artifact.manifest.digest].held
    assert ("window-10", now // 10 + 400) not in held and ("window-10", 7) not in held
    other.collector.observe(batch, 0.0)
    for service in (other, one):
        service.courier.turn()
    assert one.answer()["requests"] == 10


@pytest.mark.parametrize("revision", [b"9" * 5000, b"-5", b"1.5", b"text"])
def test_revision_that_is_no_number_is_none(store: RedisStore, artifact: Artifact, revision: bytes):
    store.push(artifact.manifest, published(Share("window-10", 7, WHOLE, 1, b"x")))
    store.client.set(f"{prefix(artifact.manifest)}:revision", revision)
    assert ("window-10", 7) in store.fetch(artifact.manifest, "b", everything=True).changed


def test_key_of_another_type_is_said(services: list[Service], batch: EncodedBatch, artifact: Artifact):
    one = services[0]
    one.store.client.set(f"{prefix(artifact.manifest)}:replicas", "a text")
    one.collector.observe(batch, 0.0)
    one.courier.turn()
    assert "WRONGTYPE" in one.answer()["fleet"]["trouble"] and one.answer()["requests"] == 5


@pytest.mark.parametrize(
    ("options", "path", "said"),
    [
        (("--requirepass", "secret"), "", "refuses user or password"),
        (("--requirepass", "secret"), ":wrong@", "refuses user or password"),
        (("--maxmemory", "1mb"), "", "is full: give it more memory"),
        (("--replicaof", "127.0.0.1 1", "--replica-read-only", "yes"), "", "is read-only"),
    ],
)
def test_store_that_refuses_is_named_with_what_to_do(
    artifact: Artifact, batch: EncodedBatch, redis: Redis, options: tuple[str, ...], path: str, said: str
):
    redis.stop()
    redis.start(*options)
    service = Service(artifact, redis.url.replace("//", f"//{path}"))
    service.collector.observe(batch, 0.0)
    if "full" in said:
        service.store.client.config_set("maxmemory", "1")
    service.courier.turn()
    answer = service.answer()
    assert said in answer["fleet"]["trouble"] and answer["requests"] == 5
    assert "secret" not in answer["fleet"]["trouble"] and "wrong" not in answer["fleet"]["trouble"]
    service.store.close()


def test_what_is_no_redis_or_is_silent_is_named(artifact: Artifact):
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"redis://127.0.0.1:{server.getsockname()[1]}"

        def answer() -> None:
            connection, _ = server.accept()
            connection.recv(99)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            connection.close()

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(FleetError, match=r"is no Redis|cannot be reached"):
            RedisStore(url).push(artifact.manifest, published())
    with pytest.raises(FleetError, match="cannot be reached"):
        RedisStore(f"redis://127.0.0.1:{free_port()}").push(artifact.manifest, published())


def test_url_that_is_none_is_refused_at_the_start():
    with pytest.raises(SettingError, match="store is no URL of a Redis"):
        RedisStore("http://127.0.0.1:6379")


ABSURD = [
    b"window-10:%s:whole" % (b"9" * 20),
    b"window-10:%s:whole" % (b"9" * 5000),
    b"window-10:9999999999999999999:whole",
    "window-10:\u00b2:whole".encode(),
    b"window-10:7:other",
    b"window-10:7:",
    b"deep-300:7:figures",
    b"everything:1:whole",
]


@pytest.mark.parametrize(
    "member", [b"", b"window-10", b"window-10:x:whole", b"other:1:whole", b"\xff:1:whole", *ABSURD]
)
def test_change_that_names_no_bucket_is_none(member: bytes):
    assert parse(member) is None


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
