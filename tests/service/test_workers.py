"""Real services of several processes: they answer as one."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import AbstractContextManager
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest

from runtime.artifact import Artifact
from runtime.state_store import read_kept
from tests.service import processes
from tests.service.processes import ROOT, Service, ask, is_running, wait_until

ROWS = ["what is my balance", "will it rain", "hi"]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")


def serving(artifact: Artifact, *options: str) -> AbstractContextManager[Service]:
    return processes.serving("--workers", "2", *options, model=str(artifact.path))


class Traffic:
    """Clients that ask all the time, each over a connection that it opens anew now and then."""

    def __init__(self, service: Service, clients: int = 6) -> None:
        self.service = service
        self.lock, self.stopped = threading.Lock(), threading.Event()
        self.sent = self.answered = self.failed = 0  # rows
        self.threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def __enter__(self) -> "Traffic":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        for thread in self.threads:
            thread.join()

    def counts(self) -> tuple[int, int]:
        with self.lock:
            return self.sent, self.answered

    def wait_for(self, rows: int) -> None:
        target = self.answered + rows
        wait_until(lambda: self.answered >= target)

    def _ask(self) -> None:
        while not self.stopped.is_set():
            try:
                self._ask_over(self.service.connect())
            except (OSError, HTTPException):
                continue

    def _ask_over(self, connection: HTTPConnection) -> None:
        body = json.dumps({"inputs": ROWS})
        try:
            for _ in range(20):
                if self.stopped.is_set():
                    break
                with self.lock:
                    self.sent += len(ROWS)
                answered = False
                try:
                    connection.request("POST", "/predict", body)
                    answered = len(json.loads(connection.getresponse().read())["predictions"]) == len(ROWS)
                finally:
                    with self.lock:
                        self.answered += len(ROWS) * answered
                        self.failed += len(ROWS) * (not answered)
        finally:
            connection.close()


def test_every_worker_counts_for_all_exactly_while_traffic_runs(text_artifact: Artifact):
    with serving(text_artifact) as service:
        assert len(service.workers) == 2
        connections = service.connect_to_each().values()
        with Traffic(service) as traffic:
            for _ in range(10):
                traffic.wait_for(60)
                for connection in connections:
                    _, answered_before = traffic.counts()
                    requests = ask(connection, "/norm-stats")["requests"]
                    sent_after, _ = traffic.counts()
                    assert answered_before <= requests <= sent_after
        assert traffic.failed == 0
        for connection in connections:
            stats = ask(connection, "/norm-stats")
            assert stats["requests"] == traffic.answered
            assert {layer["live"]["tokens"] for layer in stats["layers"]} == {stats["tokens"]}
            assert ask(connection, "/health/ready")["workers"] == 2
            connection.close()


def test_killed_worker_loses_no_answer_and_is_replaced(text_artifact: Artifact):
    with serving(text_artifact) as service:
        before = service.workers
        with Traffic(service) as traffic:
            time.sleep(1.0)  # a worker that ends sooner is not replaced at once
            killed = min(before)
            os.kill(killed, signal.SIGKILL)
            wait_until(lambda: len(service.workers - {killed}) == 2)
            traffic.wait_for(300)
        connections = service.connect_to_each()
        assert connections.keys() == service.workers != before
        for connection in connections.values():
            assert traffic.answered <= ask(connection, "/norm-stats")["requests"] <= traffic.answered + traffic.failed
            connection.close()


def inferences(connection: HTTPConnection) -> tuple[int, int]:
    """Rows and requests, as one worker tells them of all."""
    (model,) = ask(connection, "/v2/models/texts/stats")["model_stats"]
    return model["inference_count"], model["inference_stats"]["success"]["count"]


def test_inference_statistics_are_those_of_all_workers_and_outlast_them(text_artifact: Artifact):
    with serving(text_artifact) as service:
        connections = service.connect_to_each()
        for number in range(30):
            connection = service.connect() if number < 20 else list(connections.values())[number % 2]
            connection.request("POST", "/predict", json.dumps({"inputs": ROWS}))
            assert connection.getresponse().read()
            if number < 20:
                connection.close()
        for connection in connections.values():
            wait_until(lambda connection=connection: inferences(connection) == (90, 30), 1.0)
        time.sleep(0.5)  # by now all has been handed in; and a worker that ends within its first second is late
        killed = min(connections)
        os.kill(killed, signal.SIGKILL)
        connections.pop(killed).close()
        (left,) = connections.values()
        assert inferences(left) == (90, 30)
        wait_until(lambda: len(service.workers - {killed}) == 2)
        for connection in service.connect_to_each().values():
            assert inferences(connection) == (90, 30)
            connection.close()
        left.request("POST", "/predict", json.dumps({"inputs": "hi"}))
        assert left.getresponse().read() and inferences(left) == (91, 31)  # the worker that is asked is exact
        left.close()


def test_workers_are_replaced_one_by_one_on_hangup(text_artifact: Artifact):
    with serving(text_artifact) as service:
        before = service.workers
        with Traffic(service, clients=2) as traffic:
            traffic.wait_for(60)
            service.process.send_signal(signal.SIGHUP)
            wait_until(lambda: len(service.workers) == 2 and not service.workers & before)
            traffic.wait_for(60)
        connections = service.connect_to_each()
        for connection in connections.values():
            assert traffic.answered <= ask(connection, "/norm-stats")["requests"] <= traffic.answered + traffic.failed
            connection.close()


def test_accepted_requests_are_answered_and_kept_before_the_end(text_artifact: Artifact, tmp_path: Path):
    with serving(text_artifact, "--state", str(tmp_path)) as service:
        body = json.dumps({"inputs": ROWS}).encode()
        head = f"POST /predict HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n"
        connections = [socket.create_connection(("127.0.0.1", service.port), timeout=20) for _ in range(8)]
        for connection in connections:
            connection.sendall(head.encode())
            assert b"100 Continue" in connection.recv(1000)
        service.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        for connection in connections:
            connection.sendall(body)
            assert b"200 OK" in connection.makefile("rb").readline()
            connection.close()
        assert service.process.wait(40) == 0
    (path,) = tmp_path.glob("*.sqlite")
    assert read_kept(path).document.state.requests == 8 * len(ROWS)


def test_workers_end_with_their_parent(text_artifact: Artifact):
    with serving(text_artifact) as service:
        workers = service.workers
        service.process.kill()
        wait_until(lambda: not any(map(is_running, workers)))


HURRIED = """
import sys
from addnorm.cli import main
from service import workers

def fork_and_wait(*arguments):
    process = fork(*arguments)
    process.join()
    return process

fork, workers.fork = workers.fork, fork_and_wait
sys.exit(main())
"""


def test_device_that_cannot_be_had_ends_the_service_in_one_sentence(text_artifact: Artifact):
    """Even where workers end before their parent listens to them; test_stopping.py has the usual order."""
    command = [sys.executable, "-c", HURRIED, "serve", "--port", "0", "--device", "cuda", "--workers", "2"]
    environment = os.environ | {"ADDNORM_MODEL": str(text_artifact.path), "ADDNORM_LOG_LEVEL": "error"}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=30)
    assert (run.returncode, run.stdout) == (2, "")
    assert re.fullmatch(r"addnorm: Device cuda is not available: .*\n", run.stderr)
