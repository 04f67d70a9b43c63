"""A real `addnorm serve` for tests that ask it as its users do."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]


@contextmanager
def served(*options: str, cwd: Path = ROOT) -> Iterator[str]:
    """The address of a service with these options, on a free port unless they name one, while it runs."""
    command = [sys.executable, "-m", "addnorm", "serve", "--port", "0", "--device", "cpu", "--workers", "1", *options]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=cwd, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            urls = (re.search(r"serves at (http://127\.0\.0\.1:\d+) ", line) for line in process.stdout)
            url = next((found[1] for found in urls if found), None)
            assert url, "the service ended without saying where it listens"
            yield url
        finally:
            process.terminate()
            try:
                process.wait(40)
            finally:
                process.kill()
