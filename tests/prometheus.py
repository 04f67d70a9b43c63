"""A real Prometheus for tests that ask what it reads."""

import json
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx


@contextmanager
def prometheus(directory: Path, config: dict[str, Any]) -> Iterator[httpx.Client]:
    """Runs on a free port, with its data in `directory`; it scrapes nothing in its first five seconds."""
    (directory / "prometheus.yml").write_text(json.dumps(config))  # which is YAML too
    command = ["prometheus", f"--config.file={directory / 'prometheus.yml'}", f"--storage.tsdb.path={directory / 'db'}"]
    log = directory / "prometheus.log"
    with (
        log.open("w") as written,
        subprocess.Popen([*command, "--web.listen-address=127.0.0.1:0"], stderr=written) as process,
    ):
        try:
            with httpx.Client(base_url=f"http://{address(process, log)}", trust_env=False) as client:
                yield client
        finally:
            process.terminate()


def address(process: subprocess.Popen[bytes], log: Path) -> str:
    """Where it listens: it chose the port itself, so that nobody else can have taken it."""
    deadline = time.monotonic() + 30
    while not (found := re.search(r'"Listening on".* address=(\S+)', log.read_text())):
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.01)
    return found[1]
