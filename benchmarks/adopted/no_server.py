"""No server: a process on the servers' core that runs the same artifact, told what to measure from here.

It is benchmarks/adopted/in_process.py, apart so that this side does not load the libraries that servers share.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.adopted.workloads import ROOT
from benchmarks.serving.processes import SERVICE_CORE

# Batches: single texts; 32 of like lengths, packed; as few as the service runs together; 32 padded to the longest.
SINGLE, SORTED, SMALL, PADDED = "one by one", "no server", "no server, 512 tokens a batch", "no server, padded"
# Of the statistics' cost: the embedding as only output, all outputs, and those recorded.
BARE, RUN, RECORDED = "embedding only", "run", "run and record"


@dataclass(frozen=True, slots=True)
class Work:
    """Texts that were answered once.

    Attributes:
        p50: median of a batch's seconds.
        busy: share of its core that it had.
    """

    texts: int
    seconds: float
    p50: float
    busy: float


class NoServer:
    """The child process."""

    def __init__(self, artifact: Path) -> None:
        command = [
            "taskset",
            "-c",
            str(SERVICE_CORE),
            sys.executable,
            "-m",
            "benchmarks.adopted.in_process",
            str(artifact),
        ]
        self.popen = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def measure(self, workload: str, count: int, variant: str) -> Work:
        return Work(**self.ask({"workload": workload, "count": count, "variant": variant}))

    def statistics_cost(self, count: int, rounds: int) -> dict[str, list[float]]:
        return self.ask({"count": count, "rounds": rounds})

    def ask(self, arguments: dict[str, Any]) -> dict[str, Any]:
        assert self.popen.stdin and self.popen.stdout
        self.popen.stdin.write(json.dumps(arguments) + "\n")
        self.popen.stdin.flush()
        if not (line := self.popen.stdout.readline()):
            raise SystemExit("The process without a server ended; what it printed is above.")
        found: dict[str, Any] = json.loads(line)
        return found

    def stop(self) -> None:
        assert self.popen.stdin
        self.popen.stdin.close()
        self.popen.wait()
