"""Real services in processes of their own, for tests."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from runtime.artifact import Artifact
from service.workers.fork import STEADY
from tests.serving import ended

ESTABLISHED = "01"  # of /proc/net/tcp, proc(5)
ROOT = Path(__file__).parents[3]
ROWS = ["what is my balance", "will it rain", "hi"]


class Service:
    """A running `addnorm serve`, and who of its processes does what."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout
        for line in process.stdout:
            if found := re.search(r"serves at http://127\.0\.0\.1:(\d+) ", line):
                self.port, self.ready_at = int(found[1]), time.monotonic()
                return
        raise AssertionError("the service ended without saying where it listens")

    @property
    def workers(self) -> set[int]:
        return set(map(int, Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()))

    def wait_until_steady(self) -> None:
        """Until a worker that ends is replaced at once: one that ends sooner is not."""
        time.sleep(max(0.0, self.ready_at + STEADY - time.monotonic()))

    def connect(self) -> HTTPConnection:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.connect()
        return connection

    def connect_to_each(self) -> dict[int, HTTPConnection]:
        """A connection to every worker, by its process."""
        connections: dict[int, HTTPConnection] = {}
        deadline = time.monotonic() + 10
        while connections.keys() != self.workers and time.monotonic() < deadline:
            connection = self.connect()
            ask(connection, "/health/live")  # it is accepted once it is answered
            pid = self.behind(connection)
            if connections.setdefault(pid, connection) is not connection:
                connection.close()
        assert connections.keys() == self.workers
        return connections

    def behind(self, connection: HTTPConnection) -> int:
        """The worker at the other end."""
        ends = f":{self.port:04X}", f":{connection.sock.getsockname()[1]:04X}"
        lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
        (inode,) = [line[9] for line in lines if (line[1][-5:], line[2][-5:], line[3]) == (*ends, ESTABLISHED)]
        (pid,) = [pid for pid in self.workers if f"socket:[{inode}]" in open_files(pid)]
        return pid


def open_files(pid: int) -> set[str]:
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found.add(str(entry.readlink()))
    return found


def ask(connection: HTTPConnection, path: str) -> Any:
    connection.request("GET", path)
    return json.loads(connection.getresponse().read())


def post(connection: HTTPConnection, path: str, body: str = "") -> tuple[int, Any]:
    """Status and body."""
    connection.request("POST", path, body)
    response = connection.getresponse()
    return response.status, json.loads(response.read())


@contextmanager
def serving(*options: str, **variables: str) -> Iterator[Service]:
    """A service on the CPU; `variables` are environment variables without ADDNORM_."""
    command = [sys.executable, "-m", "addnorm", "serve", "--port", "0", "--device", "cpu", *options]
    environment = os.environ | {f"ADDNORM_{name.upper()}": value for name, value in variables.items()}
    with ended(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)) as process:
        yield Service(process)


def together(artifact: Artifact, *options: str) -> AbstractContextManager[Service]:
    """A service of two workers."""
    return serving("--workers", "2", *options, model=str(artifact.path))


def wait_until(holds: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it does not come to hold"
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
