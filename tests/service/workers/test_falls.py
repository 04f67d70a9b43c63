"""Services whose forks fail, or whose workers fall again and again: those who answer go on."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runtime.artifact import Artifact
from runtime.store.kept import read_kept
from tests.service.workers.clients import BODY
from tests.service.workers.processes import ROOT, ROWS, Service, ask, is_running, post, wait_until
from tests.serving import ended

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")

# The third fork and some more go wrong: the start has two.
FAILING = """
import os, sys
from itertools import count
from addnorm.cli import main
from service.workers import fork as forking, supervisor as workers

def fork(body, cleanups):
    return ways.get(next(forks), real)(body, cleanups)

def refused(body, cleanups):
    raise BlockingIOError(11, "Resource temporarily unavailable")

def falling(body, cleanups):
    return real(body if os.path.exists(os.environ.get("HEAL", "")) else lambda: os._exit(137), cleanups)

def broken(self):
    if os.path.exists(os.environ.get("BREAK", "")):
        raise AssertionError("a defect")
    turn(self)

real, workers.fork, forks = workers.fork, fork, count(1)
turn, workers.Supervisor._turn = workers.Supervisor._turn, broken
forking.LONGEST_PAUSE = 0.5
ways = {}
"""


@contextmanager
def failing(artifact: Artifact, how: str, log: Path, **variables: str) -> Iterator[Service]:
    """A service of two workers whose forks go as the lines `how` say."""
    script = f"{FAILING}\n{how}\nsys.exit(main())"
    command = [sys.executable, "-c", script, "serve", "--port", "0", "--device", "cpu", "--workers", "2"]
    environment = os.environ | {"ADDNORM_MODEL": str(artifact.path)} | variables
    with log.open("w") as said:
        started = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=said, text=True)
        with ended(started) as process:
            yield Service(process)


def listening(port: int) -> int:
    """How many sockets the kernel deals out connections to; proc(5)."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    return sum(line[1].endswith(f":{port:04X}") and line[3] == "0A" for line in lines)


def test_fork_that_fails_is_tried_again_and_the_other_worker_answers(text_artifact: Artifact, tmp_path: Path):
    with failing(text_artifact, "ways = {3: refused, 4: refused}", tmp_path / "log") as service:
        service.wait_until_steady()
        killed = min(service.workers)
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: len(service.workers - {killed}) == 2)
        for connection in service.connect_to_each().values():
            assert post(connection, "/predict", BODY)[0] == 200
            connection.close()
    said = (tmp_path / "log").read_text()
    assert said.count("a worker cannot be started (Resource temporarily unavailable): another starts in 0.5 s") == 2


def test_service_whose_workers_cannot_be_forked_ends_in_one_sentence(text_artifact: Artifact):
    script = f"{FAILING}\nways = {{2: refused}}\nsys.exit(main())"
    command = [sys.executable, "-c", script, "serve", "--port", "0", "--device", "cpu", "--workers", "2"]
    environment = os.environ | {"ADDNORM_MODEL": str(text_artifact.path), "ADDNORM_LOG_LEVEL": "critical"}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=30)
    assert (run.returncode, run.stdout) == (2, "")
    assert "a worker cannot be started (Resource temporarily unavailable)" in run.stderr


def test_worker_that_falls_again_and_again_gets_no_connections_until_one_is_ready(
    text_artifact: Artifact, tmp_path: Path
):
    log = tmp_path / "log"
    how, heal = "ways = dict.fromkeys(range(3, 1000), falling)", tmp_path / "heal"
    with failing(text_artifact, how, log, HEAL=str(heal)) as service:
        service.wait_until_steady()
        os.kill(min(service.workers), signal.SIGKILL)
        wait_until(lambda: log.read_text().count("exit code 137") == 2)
        wait_until(lambda: listening(service.port) == 1)
        for _ in range(16):
            connection = service.connect()
            connection.sock.settimeout(5.0)
            connection.request("GET", "/health/live")
            assert connection.getresponse().status == 200
            connection.close()
        heal.touch()
        wait_until(lambda: listening(service.port) == 2)
        for connection in service.connect_to_each().values():
            connection.close()


def test_replacement_that_is_given_up_is_told(text_artifact: Artifact, tmp_path: Path):
    log, told = tmp_path / "log", "in the place of an old one: workers that were not replaced by now stay"
    with failing(text_artifact, "ways = {3: falling, 4: refused}", log) as service:
        before = service.workers
        for number, end in enumerate(("exit code 137", "Resource temporarily unavailable"), start=1):
            service.process.send_signal(signal.SIGHUP)
            wait_until(lambda number=number: log.read_text().count(told) == number)
            assert f"({end}), {told}" in log.read_text()
            assert before == service.workers
        service.process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(service.workers) == 2 and not service.workers & before)


def test_defect_of_the_supervisor_ends_the_workers_and_keeps_the_statistics(text_artifact: Artifact, tmp_path: Path):
    variables = {"ADDNORM_STATE": str(tmp_path / "state"), "BREAK": str(tmp_path / "break")}
    with failing(text_artifact, "", tmp_path / "log", **variables) as service:
        connection = service.connect()
        assert post(connection, "/predict", BODY)[0] == 200
        assert ask(connection, "/norm-stats")["requests"] == len(ROWS)
        connection.close()
        workers = service.workers
        (tmp_path / "break").touch()
        assert service.process.wait(20) == 1
        wait_until(lambda: not any(map(is_running, workers)))
    (path,) = (tmp_path / "state").glob("*.sqlite")
    assert read_kept(path).document.state.requests == len(ROWS)
