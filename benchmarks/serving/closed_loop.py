"""A closed loop by wrk: so many clients, each sending its next request once it has its answer."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).parent / "wrk.lua"


@dataclass(frozen=True, slots=True)
class Scenario:
    """A closed loop: so many clients, each request with so many texts.

    Attributes:
        limit: texts per run without a server.
        every_class: whether an answer has the scores of all classes; the peers have none for it.
    """

    name: str
    clients: int
    rows: int
    limit: int
    every_class: bool = False


ONE, EIGHT, MANY, ROWS, CLASSES = (
    Scenario("1 client", 1, 1, 1),
    Scenario("8 clients", 8, 1, 32),
    Scenario("32 clients", 32, 1, 32),
    Scenario("requests of 32 texts", 4, 32, 32),
    Scenario("32 clients, all classes", 32, 1, 32, every_class=True),
)
SCENARIOS = (ONE, EIGHT, MANY, ROWS, CLASSES)


@dataclass(frozen=True, slots=True)
class Sample:
    """One variant in one round.

    Attributes:
        rate: texts per second.
        p50, p99: seconds a request, or a run without a server, took.
        busy: share of its core that the variant had; below one where it waits, or where others use the core.
    """

    rate: float
    p50: float
    p99: float
    busy: float


def check_wrk() -> None:
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is missing, which generates the load: install the package wrk (apt-get install wrk).")


def wrk(port: int, path: str, bodies: Path, clients: int, seconds: int) -> dict[str, float]:
    """What benchmarks/serving/wrk.lua prints of a run from this process's cores.

    Raises:
        RuntimeError: a request was not answered with 200.
    """
    url = f"http://127.0.0.1:{port}{path}"
    command = [
        "wrk",
        "-t1",
        f"-c{clients}",
        f"-d{seconds}s",
        "--timeout=30s",
        "-s",
        str(SCRIPT),
        url,
        "--",
        str(bodies),
    ]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, float] = json.loads(printed.splitlines()[-1])
    if found["refused"] or found["broken"]:
        raise RuntimeError(f"{url} with {clients} clients, {found['requests']} requests: {printed}")
    return found
