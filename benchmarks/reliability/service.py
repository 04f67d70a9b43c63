"""A real service that is attacked: its processes, its log, and what it says of itself."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TEXT = b'{"inputs": "what is my account balance"}'


class Service:
    """A running `addnorm serve` on a port of this machine."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process, self.log = process, log
        assert process.stdout
        for line in process.stdout:
            if found := re.search(r"serves at http://127\.0\.0\.1:(\d+) ", line):
                self.port = int(found[1])
                return
        raise RuntimeError(f"the service ended without saying where it listens: {log.read_text()[-500:]}")

    @property
    def workers(self) -> set[int]:
        pid = self.process.pid
        return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))

    @property
    def tracebacks(self) -> int:
        return self.log.read_text(errors="replace").count("Traceback (most recent call last)")

    def ask(self, path: str, body: bytes | None = None, timeout: float = 20.0) -> Any:
        """The JSON of an answer, on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request("GET" if body is None else "POST", path, body)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def in_flight(self) -> int:
        """Requests in flight, without the one that asks."""
        return int(self.ask("/traffic")["now"]["in_flight"]) - 1

    def settle(self, seconds: float = 5.0) -> int:
        """Waits until nothing is in flight; gives what still is."""
        deadline = time.monotonic() + seconds
        while (left := self.in_flight()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return left


@contextmanager
def serving(*options: str, **variables: str) -> Iterator[Service]:
    """A service on the CPU; `variables` are environment variables without ADDNORM_."""
    command = [sys.executable, "-m", "addnorm", "serve", "--port", "0", "--device", "cpu", *options]
    environment = os.environ | {f"ADDNORM_{name.upper()}": value for name, value in variables.items()}
    with (
        tempfile.TemporaryDirectory() as folder,
        (Path(folder) / "log").open("w") as log,
        subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            yield Service(process, Path(folder) / "log")
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(40)
            finally:
                process.kill()
