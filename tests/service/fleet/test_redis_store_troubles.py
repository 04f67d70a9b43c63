"""What others wrote under our keys is left out and named; a store that refuses is named with what to do."""

import socket
import threading

import pytest

from runtime.artifact import Artifact
from runtime.graph.batch import EncodedBatch
from runtime.store.shares import WHOLE, Share
from runtime.store.shares import Replica as Who
from service.fleet.exchange import FleetError
from service.fleet.keys import parse, prefix
from service.fleet.redis_store import SEQUENCE, RedisStore
from tests.service.fleet.conftest import Redis, Service, free_port, needs_redis, published

pytestmark = needs_redis
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


@pytest.mark.parametrize(
    "member", [b"", b"window-10", b"window-10:x:whole", b"other:1:whole", b"\xff:1:whole", *ABSURD]
)
def test_change_that_names_no_bucket_is_none(member: bytes):
    assert parse(member) is None


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
