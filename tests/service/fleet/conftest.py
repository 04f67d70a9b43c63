"""Fixtures of fleets: a real Redis on a port of this machine, replicas over it, and batches for them to count."""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.artifact import Artifact, read_artifact
from runtime.graph.batch import EncodedBatch
from runtime.graph.encoder import Encoder
from runtime.graph.texts import make_input_encoder
from runtime.store.shares import Published, Share
from runtime.store.shares import Replica as Who
from service.fleet.courier import Courier
from service.fleet.redis_store import RedisStore
from service.norm_stats.interface import AllLayers, WindowQuery
from service.norm_stats.pool import CollectorPool
from service.settings import EMBEDDED, Settings
from tests.helpers import TEXTS
from tests.service.fleet.bus import MIDNIGHT, batches_of

SERVER = shutil.which("redis-server")
needs_redis = pytest.mark.skipif(SERVER is None, reason="there is no redis-server: install Debian's redis-server")


class Redis:
    """A store that can be stopped, and started again without what it held."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.options: list[str] = []
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self, *options: str) -> None:
        assert SERVER is not None
        command = [SERVER, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.folder)]
        self.process = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise RuntimeError("redis-server did not start")

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    redis = Redis(tmp_path)
    redis.start()
    yield redis
    redis.stop()


class Service:
    """A replica without its HTTP, with a connection of its own."""

    def __init__(self, artifact: Artifact, url: str) -> None:
        self.pool = CollectorPool(Settings(store=url, device="cpu"))
        self.collector = self.pool.open(artifact)
        self.store = RedisStore(url)
        self.courier = Courier(self.store, self.pool)

    def answer(self) -> Any:
        return json.loads(self.collector.report(AllLayers(WindowQuery("all"))))


def published(*shares: Share, who: str = "a") -> Published:
    return Published(
        Who(who, f"{who}:8000", 5.0, sequence=max((share.sequence for share in shares), default=0)), 5.0, shares
    )


@pytest.fixture(scope="session")
def artifact() -> Artifact:
    """The embedded model: its baseline can judge."""
    return read_artifact(EMBEDDED)


@pytest.fixture(scope="module")
def batches(artifact: Artifact) -> list[EncodedBatch]:
    return batches_of(artifact, 1, 3, 7, 20)


@pytest.fixture(scope="module")
def batch(artifact: Artifact) -> EncodedBatch:
    """Of five requests."""
    return Encoder(artifact).run([item.tokens for item in make_input_encoder(artifact).encode(TEXTS[:5])])


@pytest.fixture
def now() -> list[float]:
    return [MIDNIGHT + 3.0]


@pytest.fixture
def store(redis: Redis) -> Iterator[RedisStore]:
    store = RedisStore(redis.url)
    yield store
    store.close()


@pytest.fixture
def services(artifact: Artifact, redis: Redis) -> Iterator[list[Service]]:
    services = [Service(artifact, redis.url) for _ in range(3)]
    yield services
    for service in services:
        service.store.close()
