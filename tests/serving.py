"""A real `addnorm serve` for tests that ask it as its users do."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]


def checkout() -> dict[str, str]:
    """The variables of a process that imports from this checkout, wherever it runs."""
    return os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'clients' / 'python' / 'src'}"}


@contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """A service that ends when it is no longer needed, by force if it does not go."""
    with process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(40)
            finally:
                process.kill()


@contextmanager
def served(
    *options: str,
    cwd: Path = ROOT,
    program: Sequence[str | Path] = (sys.executable, "-m", "addnorm"),
    variables: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """The address of a service with these options, on a free port unless they name one, while it runs."""
    command = [*program, "serve", "--port", "0", "--device", "cpu", "--workers", "1", *options]
    started = subprocess.Popen(command, cwd=cwd, env=variables or checkout(), stdout=subprocess.PIPE, text=True)
    with ended(started) as process:
        assert process.stdout
        urls = (re.search(r"serves at (http://127\.0\.0\.1:\d+) ", line) for line in process.stdout)
        url = next((found[1] for found in urls if found), None)
        assert url, "the service ended without saying where it listens"
        yield url
