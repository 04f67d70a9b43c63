"""The processes of a fleet, each on a host of its own, to be killed and started again: replicas, and a store."""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis

from benchmarks.scaling.network import Network
from runtime.store.document import StateDocument

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "models" / "intents" / "1"
STORE_PORT, PORT = 6390, 8300  # replica number 1 listens on PORT + 1: so each has a name of its own
READY = 30.0  # seconds to start
KILLED = 10.0  # seconds for the system to remove a killed process


class Process:
    """A process with all that it starts, on a host."""

    def __init__(self, network: Network, host: int, command: Sequence[str], log: Path, **variables: str) -> None:
        environment = os.environ | {f"ADDNORM_{name.upper()}": value for name, value in variables.items()}
        with network.inside(host), log.open("a") as output:
            self.popen = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=output, stderr=output, start_new_session=True
            )

    def kill(self) -> float:
        """SIGKILL to all of it; gives the time of it (Unix seconds)."""
        if self.popen.poll() is None:  # else its number may be another's
            os.killpg(self.popen.pid, signal.SIGKILL)
        when = time.time()
        self.popen.wait(KILLED)
        return when


class Replica(Process):
    """A replica, which answers on every address of its host.

    Args:
        number: also its host.
        variables: ADDNORM_STORE or ADDNORM_PEERS.
    """

    def __init__(self, network: Network, number: int, workers: int, folder: Path, **variables: str) -> None:
        self.network, self.number, self.port = network, number, PORT + number
        options = {"model": MODEL, "device": "cpu", "workers": workers, "host": "0.0.0.0", "port": self.port}
        command = [sys.executable, "-m", "addnorm", "serve"]
        command += [part for name, value in options.items() for part in (f"--{name}", str(value))]
        self.log = folder / f"replica-{number}.log"
        # every text runs alone: the last bits of a matrix product depend on how many rows it has
        super().__init__(network, number, command, self.log, max_batch_tokens="1", threads="1", **variables)

    def ask(self, path: str, host: int = 0) -> bytes:
        """What it answers to a client on that host."""
        with self.network.inside(host):
            connection = http.client.HTTPConnection(self.network.address(self.number), self.port, timeout=10)
            try:
                connection.request("GET", path)
                return connection.getresponse().read()
            finally:
                connection.close()

    def report(self, host: int = 0) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.ask("/norm-stats?scope=fleet&window=all", host))
        return found

    def state(self) -> StateDocument:
        return StateDocument.from_json(self.ask("/norm-stats/state?scope=fleet"), f"replica {self.number}")

    def knows(self, replicas: int) -> bool:
        """Whether it is ready, and has heard of so many in all."""
        try:
            return bool(json.loads(self.ask("/norm-stats?scope=fleet"))["fleet"]["replicas"] == replicas)
        except (OSError, http.client.HTTPException, ValueError, KeyError):
            return False

    def wait_ready(self, replicas: int) -> None:
        deadline = time.monotonic() + READY
        while not self.knows(replicas):
            if self.popen.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"replica {self.number} does not start: {self.log.read_text()[-800:]}")
            time.sleep(0.1)

    def tracebacks(self) -> int:
        return self.log.read_text(errors="replace").count("Traceback (most recent call last)")


class Store:
    """Debian's redis-server on host 0, which forgets nothing or all when it is killed."""

    def __init__(self, network: Network, folder: Path) -> None:
        self.network, self.folder = network, folder
        self.url = f"redis://{network.address(0)}:{STORE_PORT}"
        self.process = self._start()

    def save(self) -> None:
        """Writes the snapshot that it starts from again."""
        self._tell("SAVE")

    def restart(self, down: float, snapshot: bool) -> None:
        """Kills it, and starts it after so many seconds: from its snapshot, or with nothing."""
        self.process.kill()
        if not snapshot:
            (self.folder / "dump.rdb").unlink(missing_ok=True)
        time.sleep(down)
        self.process = self._start()

    def _start(self) -> Process:
        options = {"port": STORE_PORT, "bind": "0.0.0.0", "protected-mode": "no", "save": "", "dir": self.folder}
        command = ["redis-server", *(part for name, value in options.items() for part in (f"--{name}", str(value)))]
        process = Process(self.network, 0, command, self.folder / "store.log")
        deadline = time.monotonic() + READY
        while True:
            try:
                self._tell("PING")
                return process
            except redis.RedisError as error:
                if process.popen.poll() is not None or time.monotonic() > deadline:
                    process.kill()
                    raise RuntimeError("redis-server does not start") from error
                time.sleep(0.05)

    def _tell(self, command: str) -> None:
        with self.network.inside(0), redis.Redis(self.network.address(0), STORE_PORT, socket_timeout=5) as client:
            client.execute_command(command)
