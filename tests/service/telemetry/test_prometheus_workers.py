"""Metrics and traffic of a service of several processes: what all of them counted, exactly."""

import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from runtime.artifact import Artifact
from tests.prometheus import prometheus
from tests.service.workers.clients import BODY
from tests.service.workers.processes import ROWS, ask, post, together, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")


def found_by(client: httpx.Client, query: str) -> list[float]:
    try:
        answer: Any = client.get("/api/v1/query", params={"query": query}).json()
        return [float(series["value"][1]) for series in answer["data"]["result"]]
    except (httpx.HTTPError, KeyError, ValueError):  # it is not up yet
        return []


def wait_for(client: httpx.Client, query: str, expected: list[float]) -> None:
    deadline = time.monotonic() + 30
    while (found := found_by(client, query)) != expected:
        assert time.monotonic() < deadline, f"{query} is {found}, not {expected}"
        time.sleep(0.1)


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed")
def test_prometheus_reads_exactly_what_was_asked_of_two_workers(text_artifact: Artifact, tmp_path: Path):
    with together(text_artifact) as service:
        jobs = [{"job_name": "addnorm", "static_configs": [{"targets": [f"127.0.0.1:{service.port}"]}]}]
        with prometheus(tmp_path, {"global": {"scrape_interval": "1s"}, "scrape_configs": jobs}) as client:
            for requests, connection in enumerate(service.connect_to_each().values(), start=20):
                for _ in range(requests):
                    assert post(connection, "/predict", BODY)[0] == 200
                assert post(connection, "/predict", "{")[0] == 400
                assert ask(connection, "/traffic")["workers"] == 2
                connection.close()
            wait_for(client, 'addnorm_requests_total{route="/predict",status="200",protocol="http"}', [41])
            wait_for(client, 'addnorm_requests_total{route="/predict",status="400",protocol="http"}', [2])
            wait_for(client, "addnorm_rows_total", [41 * len(ROWS)])
            wait_for(client, 'addnorm_request_duration_seconds_count{phase="total"}', [41])
            wait_for(client, "addnorm_drift_window_requests", [41 * len(ROWS)])
            wait_for(client, 'up{job="addnorm"}', [1])
            wait_for(client, "addnorm_workers", [2])


def test_counters_of_two_workers_never_go_back_when_one_is_killed(text_artifact: Artifact):
    with together(text_artifact) as service:
        before = service.connect_to_each()
        for connection in before.values():
            for _ in range(10):
                assert post(connection, "/predict", BODY)[0] == 200
        victim, witness = before

        def predictions() -> int:
            return int(ask(before[witness], "/traffic")["total"]["predictions"])

        wait_until(lambda: predictions() == 20)  # the victim has handed in what it counted
        service.wait_until_steady()
        os.kill(victim, signal.SIGKILL)
        counts, deadline = [], time.monotonic() + 20
        while service.workers >= {victim} or len(service.workers) < 2 or len(counts) < 20:
            assert time.monotonic() < deadline
            counts.append(predictions())
        assert set(counts) == {20}
        for connection in before.values():
            connection.close()
        for connection in service.connect_to_each().values():
            assert ask(connection, "/traffic")["total"]["rows"] == 20 * len(ROWS)
            connection.close()
