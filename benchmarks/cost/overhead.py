"""What the statistics cost over HTTP: requests/s and CPU time a request with them and without, in one run, paired.

    python -m benchmarks.cost.overhead        needs wrk; two cores, one for the service and one for the load

`deep` is the service as it is. `always-on` is the same without the deep graph, `off` the same over a graph without its
statistics outputs, recording nothing. All run all the time, on the same core; the load goes to them in turn. CPU time
is the services' own, as the system counts it: other work on the machine moves it less than requests/s.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.cost.inference import session, without_statistics
from export.timing import Timing, summarize
from runtime.artifact import read_artifact
from runtime.graph.batch import EncodedBatch, best_classes
from runtime.graph.encoder import Encoder
from runtime.graph.packing import PackedBatch
from runtime.manifest import MODEL
from service.inference.engine import Engine
from service.inference.registry import ModelRegistry
from service.process import Process
from service.settings import Settings
from service.sockets import listen

PORTS = {"off": 8191, "always-on": 8192, "deep": 8193}
CLIENTS, ROUNDS, SECONDS = (32, 1), 25, 2
SCRIPT = """
wrk.method = "POST"
local texts = {"what is my balance", "how do i change my pin number on the card", "play some music",
  "book a flight to paris for next tuesday", "remind me to water the plants this evening",
  "what does the word ubiquitous mean in spanish"}
local number = 0
request = function()
  number = number % #texts + 1
  return wrk.format(nil, "/predict", nil, '{"inputs": "' .. texts[number] .. '"}')
end
"""


class BareEncoder(Encoder):
    """Answers without statistics."""

    def run_packed(self, batch: PackedBatch) -> EncodedBatch:
        logits, embedding = self.session.run(["logits", "embedding"], self.feeds(batch))
        nothing = np.empty((0, 2 * len(self.manifest.layers)), dtype=np.float32)
        lengths = np.zeros(batch.rows, dtype=np.int64)
        return EncodedBatch(
            logits, embedding, nothing, self.no_feature_moments, lengths, nothing[:, 0], *best_classes(logits)
        )


class BareEngine(Engine):
    """The engine over a graph without statistics, recording nothing."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.encoder.session = session(without_statistics(read_artifact(settings.model).files[MODEL]))
        self.encoder.__class__ = BareEncoder
        self.batcher.run = self.encoder.run


def serve(statistics: str) -> None:
    """Runs one of the services on the first core, until it is ended."""
    os.sched_setaffinity(0, {0})
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    budget = Settings.model_fields["deep_budget"].default if statistics == "deep" else 0.0
    settings = Settings(device="cpu", port=PORTS[statistics], deep_budget=budget)
    engine = BareEngine(settings) if statistics == "off" else Engine(settings)
    Process(settings, ModelRegistry(engine), None, listen(settings.host, settings.port), lambda: None).run()


@dataclass(frozen=True, slots=True)
class Load:
    """One round's result: requests/s, and the service's CPU seconds a request."""

    rate: float
    cpu: float


def load(service: subprocess.Popen[bytes], port: int, clients: int, script: str) -> Load:
    """What wrk gets from the second core."""
    url, before = f"http://127.0.0.1:{port}", cpu_seconds(service.pid)
    wrk = ["taskset", "-c", "1", "wrk", "-t1", f"-c{clients}", f"-d{SECONDS}s", "-s", script, url]
    printed = subprocess.run(wrk, check=True, capture_output=True, text=True).stdout
    assert "Non-2xx" not in printed, printed
    rate, count = re.search(r"Requests/sec:\s+([\d.]+)", printed), re.search(r"(\d+) requests in", printed)
    assert rate and count, printed
    return Load(float(rate[1]), (cpu_seconds(service.pid) - before) / int(count[1]))


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, from proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    services = {name: subprocess.Popen([sys.executable, "-m", "benchmarks.cost.overhead", name]) for name in PORTS}
    columns = ("clients", "statistics", "requests/s", "us CPU a request", "time / off", "CPU / off", "deep / time")
    table = Table(*columns)
    try:
        with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
            script.write(SCRIPT)
            script.flush()
            wait(services, script.name)
            for clients in CLIENTS:
                for row in measure(services, clients, script.name):
                    table.add_row(str(clients), *row)
    finally:
        for service in services.values():
            service.terminate()
    Console().print(table)


def wait(services: dict[str, subprocess.Popen[bytes]], script: str) -> None:
    """Until all services answer, and are warm."""
    transport = httpx.HTTPTransport(retries=3)
    with httpx.Client(transport=transport) as client:
        for name, port in PORTS.items():
            for _ in range(300):
                try:
                    client.get(f"http://127.0.0.1:{port}/health/ready").raise_for_status()
                    break
                except httpx.TransportError:
                    time.sleep(0.1)
            load(services[name], port, 32, script)


def measure(services: dict[str, subprocess.Popen[bytes]], clients: int, script: str) -> list[list[str]]:
    loads: dict[str, list[Load]] = {name: [] for name in PORTS}
    for number in track(range(ROUNDS), f"{clients} clients", transient=True):
        names = list(PORTS)
        for name in names[number % 3 :] + names[: number % 3]:
            loads[name].append(load(services[name], PORTS[name], clients, script))
    return [row_of(name, found, loads["off"]) for name, found in loads.items()]


def row_of(name: str, loads: list[Load], reference: list[Load]) -> list[str]:
    times = summarize([1 / one.rate for one in loads], [1 / one.rate for one in reference])
    cpu = summarize([one.cpu for one in loads], [one.cpu for one in reference])
    ratio = httpx.get(f"http://127.0.0.1:{PORTS[name]}/norm-stats").json()["overhead_ratio"]["deep"]
    rate = np.median([one.rate for one in loads])
    return [name, f"{rate:,.0f}", f"{cpu.seconds * 1e6:.1f}", spread(times), spread(cpu), f"{ratio:.4f}"]


def spread(timing: Timing) -> str:
    low, high = timing.spread
    return f"{timing.ratio:.3f} ({low:.3f} to {high:.3f})"


if __name__ == "__main__":
    serve(sys.argv[1]) if len(sys.argv) > 1 else main()
