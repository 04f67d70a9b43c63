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
from http.client import HTTPConnection
from pathlib import Path

import pytest

from runtime.artifact import Artifact
from runtime.store.kept import read_kept
from service.workers.heartbeat import BEAT, Heartbeat
from service.workers.worker import exit_with_parent
from tests.service.workers.clients import BODY, Clients
from tests.service.workers.processes import ROOT, ROWS, ask, is_running, post, together, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")


def test_every_worker_counts_for_all_exactly_while_traffic_runs(text_artifact: Artifact):
    with together(text_artifact) as service:
        assert len(service.workers) == 2
        connections = service.connect_to_each().values()
        with Clients(service, 6, kept=20) as clients:
            for _ in range(10):
                clients.wait_for(20)
                for connection in connections:
                    _, answered_before = clients.counts()
                    requests = ask(connection, "/norm-stats")["requests"]
                    sent_after, _ = clients.counts()
                    assert answered_before <= requests <= sent_after
        assert clients.failures == []
        for connection in connections:
            stats = ask(connection, "/norm-stats")
            assert stats["requests"] == clients.answered
            assert {layer["live"]["tokens"] for layer in stats["layers"]} == {stats["tokens"]}
            assert ask(connection, "/health/ready")["workers"] == 2
            connection.close()


def test_killed_worker_loses_no_answer_and_is_replaced(text_artifact: Artifact):
    with together(text_artifact) as service:
        before = service.workers
        with Clients(service, 6, kept=20) as clients:
            service.wait_until_steady()
            killed = min(before)
            os.kill(killed, signal.SIGKILL)
            wait_until(lambda: len(service.workers - {killed}) == 2)
            clients.wait_for(100)
        assert clients.refusals == []
        connections = service.connect_to_each()
        assert connections.keys() == service.workers != before
        for connection in connections.values():
            assert clients.answered <= ask(connection, "/norm-stats")["requests"] <= clients.sent
            connection.close()


def test_worker_that_hangs_is_replaced_and_what_waits_is_answered(text_artifact: Artifact):
    with together(text_artifact) as service:
        service.wait_until_steady()
        hung, started = min(service.workers), time.monotonic()
        os.kill(hung, signal.SIGSTOP)
        with Clients(service, 8) as clients:  # some of them wait at its port
            wait_until(lambda: hung not in service.workers and len(service.workers) == 2)
            assert time.monotonic() - started < 8
            clients.wait_for(200)
        assert clients.failures == []


def test_worker_whose_loop_is_busy_is_not_taken_for_hung():
    heartbeat, (reading, writing) = Heartbeat(), os.pipe()
    pid = os.fork()
    if pid == 0:  # as a worker does, with an event loop that a batch holds up
        threading.Thread(target=exit_with_parent, args=(reading, heartbeat), daemon=True).start()
        time.sleep(2.5 * BEAT)
        os._exit(0)
    time.sleep(2.2 * BEAT)
    assert time.monotonic() - heartbeat.last < 1.5 * BEAT
    os.waitpid(pid, 0)
    os.close(writing)


def inferences(connection: HTTPConnection) -> tuple[int, int]:
    """Rows and requests, as one worker tells them of all."""
    (model,) = ask(connection, "/v2/models/texts/stats")["model_stats"]
    return model["inference_count"], model["inference_stats"]["success"]["count"]


def test_inference_statistics_are_those_of_all_workers_and_outlast_them(text_artifact: Artifact):
    with together(text_artifact) as service:
        connections = service.connect_to_each()
        for number in range(30):
            connection = service.connect() if number < 20 else list(connections.values())[number % 2]
            assert post(connection, "/predict", BODY)[0] == 200
            if number < 20:
                connection.close()
        for connection in connections.values():
            wait_until(lambda connection=connection: inferences(connection) == (90, 30), 5.0)  # all has been handed in
        service.wait_until_steady()
        killed = min(connections)
        os.kill(killed, signal.SIGKILL)
        connections.pop(killed).close()
        (left,) = connections.values()
        assert inferences(left) == (90, 30)
        wait_until(lambda: len(service.workers - {killed}) == 2)
        for connection in service.connect_to_each().values():
            assert inferences(connection) == (90, 30)
            connection.close()
        assert post(left, "/predict", json.dumps({"inputs": "hi"}))[0] == 200
        assert inferences(left) == (91, 31)  # the worker that is asked is exact
        left.close()


def test_workers_are_replaced_one_by_one_on_hangup(text_artifact: Artifact):
    with together(text_artifact) as service:
        before = service.workers
        with Clients(service, 2, kept=20) as clients:
            clients.wait_for(20)
            service.process.send_signal(signal.SIGHUP)
            wait_until(lambda: len(service.workers) == 2 and not service.workers & before)
            clients.wait_for(20)
        assert clients.refusals == []
        connections = service.connect_to_each()
        for connection in connections.values():
            assert clients.answered <= ask(connection, "/norm-stats")["requests"] <= clients.sent
            connection.close()


HEAD = f"POST /predict HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: {len(BODY)}\r\n\r\n".encode()


def test_relief_that_dies_while_the_old_worker_still_ends_is_replaced(text_artifact: Artifact):
    with together(text_artifact) as service:
        connections = service.connect_to_each()
        for connection in connections.values():  # they keep the old workers from ending
            connection.sock.sendall(HEAD)
            assert b"100 Continue" in connection.sock.recv(1000)
        before = service.workers
        service.process.send_signal(signal.SIGHUP)
        wait_until(lambda: bool(service.workers - before))
        (relief,) = service.workers - before
        wait_until(lambda: bool(service.workers - before - {relief}))  # the next one starts: the first is ready
        os.kill(relief, signal.SIGKILL)
        wait_until(lambda: relief not in service.workers)
        assert before < service.workers
        for connection in connections.values():
            connection.sock.sendall(BODY.encode())
            assert b"200 OK" in connection.sock.recv(1000)
            connection.close()
        wait_until(lambda: len(service.workers - before) == 2 and not service.workers & before)


def test_accepted_requests_are_answered_and_kept_before_the_end(text_artifact: Artifact, tmp_path: Path):
    with together(text_artifact, "--state", str(tmp_path)) as service:
        connections = [socket.create_connection(("127.0.0.1", service.port), timeout=20) for _ in range(8)]
        for connection in connections:
            connection.sendall(HEAD)
            assert b"100 Continue" in connection.recv(1000)
        service.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        for connection in connections:
            connection.sendall(BODY.encode())
            assert b"200 OK" in connection.makefile("rb").readline()
            connection.close()
        assert service.process.wait(40) == 0
    (path,) = tmp_path.glob("*.sqlite")
    assert read_kept(path).document.state.requests == 8 * len(ROWS)


def test_workers_end_with_their_parent(text_artifact: Artifact):
    with together(text_artifact) as service:
        workers = service.workers
        service.process.kill()
        wait_until(lambda: not any(map(is_running, workers)))


HURRIED = """
import sys
from addnorm.cli import main
from service.workers import supervisor as workers

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
