"""Real services without a store: they ask one another, and answer as one."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

from runtime.artifact import Artifact
from tests.helpers import TEXTS
from tests.service.fleet.conftest import free_port
from tests.serving import served

ASKED = {"requests": 12, "replicas": 2}


def stats(url: str, key: str = "") -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    found: dict[str, Any] = httpx.get(f"{url}/norm-stats", headers=headers).json()
    return found


def until(url: str, expected: dict[str, Any], key: str = "", seconds: float = 15.0) -> dict[str, Any]:
    """The statistics, once they are as expected: they come every second."""
    deadline = time.monotonic() + seconds
    while True:
        answer = stats(url, key)
        found = {name: answer.get(name, answer["fleet"].get(name)) for name in expected}
        if found == expected or time.monotonic() > deadline:
            assert found == expected, answer["fleet"]
            return answer
        time.sleep(0.1)


@contextmanager
def fleet(model: Path, *options: str) -> Iterator[list[str]]:
    """Two services that know one another; the second has two workers."""
    ports = [free_port(), free_port()]
    peers = ",".join(f"127.0.0.1:{port}" for port in ports)
    common = ("--model", str(model), "--peers", peers, *options)
    with ExitStack() as stack:
        yield [
            stack.enter_context(served(*common, "--port", str(port), "--workers", str(workers)))
            for port, workers in zip(ports, (1, 2), strict=True)
        ]


def test_services_ask_one_another_and_answer_as_one(text_artifact: Artifact):
    with fleet(text_artifact.path) as (one, two):
        for url, rows in ((one, 5), (two, 7)):
            httpx.post(f"{url}/predict", json={"inputs": TEXTS[:rows]}).raise_for_status()
        found = [until(url, ASKED) for url in (one, two)]
        assert found[0]["tokens"] == found[1]["tokens"]
        alone = httpx.get(f"{two}/norm-stats", params={"scope": "replica"}).json()
        assert (alone["requests"], alone["fleet"]["scope"]) == (7, "replica")
        ready = httpx.get(f"{one}/health/ready").json()["fleet"]
        assert (ready["replicas"], ready["silent"], ready["trouble"]) == (2, 0, "")
        metrics = httpx.get(f"{two}/metrics").text
        assert 'addnorm_fleet_replicas{model="texts",version="1"} 2.0' in metrics


def test_courier_that_is_killed_is_replaced(text_artifact: Artifact):
    with fleet(text_artifact.path) as (one, two):
        until(two, {"replicas": 2})
        *workers, courier = children_of(two)
        os.kill(courier, signal.SIGKILL)
        httpx.post(f"{one}/predict", json={"inputs": TEXTS[:3]}).raise_for_status()
        until(two, {"requests": 3})
        found = children_of(two)
        assert found[:2] == workers and found[2] != courier


def children_of(url: str) -> list[int]:
    """The processes of a service, in the order of their start: two workers, then the courier."""
    port = url.rpartition(":")[2]
    pids = [path.parent.name for path in Path("/proc").glob("[0-9]*/cmdline") if f"--port\0{port}" in read(path)]
    (children,) = filter(None, (read(Path(f"/proc/{pid}/task/{pid}/children")) for pid in pids))
    return [int(pid) for pid in children.split()]


def read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # that process has ended
        return ""


def test_replicas_show_each_other_their_key(text_artifact: Artifact):
    with fleet(text_artifact.path, "--api-keys", "secret", "--api-key-for", "reads,health") as (one, two):
        headers = {"Authorization": "Bearer secret"}
        httpx.post(f"{two}/predict", json={"inputs": TEXTS[:4]}, headers=headers).raise_for_status()
        until(one, {"requests": 4, "trouble": ""}, "secret")
        refused = httpx.get(f"{one}/norm-stats/exchange", params={"digest": text_artifact.manifest.digest})
        assert refused.status_code == 401
