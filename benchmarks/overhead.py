"""What the statistics cost over HTTP: requests/s with them and without, in one run, paired.

    python -m benchmarks.overhead        needs wrk; two cores, one for the service and one for the load

`on` is the service as it is. `off` is the same service over the same graph without its statistics outputs, recording
nothing. Both run all the time, on the same core; the load goes to one and the other in turn.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence

import numpy as np
import uvicorn
from rich.console import Console
from rich.table import Table

from benchmarks.inference import session, without_statistics
from export.paired import summarize
from runtime.artifact import read_artifact
from runtime.batch import EncodedBatch
from runtime.encoder import Encoder
from runtime.manifest import MODEL
from runtime.packing import PackedBatch, Tokens
from service.app import create_app
from service.engine import Engine
from service.settings import Settings

PORTS = {"off": 8191, "on": 8192}
CLIENTS, ROUNDS, SECONDS = (32, 1), 15, 2
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
        return EncodedBatch(logits, embedding, nothing, self.no_feature_moments, np.zeros(batch.rows, dtype=np.int64))


class BareEngine(Engine):
    """The engine over a graph without statistics, recording nothing."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.encoder.session = session(without_statistics(read_artifact(settings.model).files[MODEL]))
        self.encoder.__class__ = BareEncoder

    def _run(self, sequences: Sequence[Tokens]) -> EncodedBatch:
        return self.encoder.run(sequences)


def serve(statistics: str) -> None:
    """Runs one of the two services on the first core, until it is ended."""
    os.sched_setaffinity(0, {0})
    settings = Settings(device="cpu", port=PORTS[statistics])
    engine = Engine(settings) if statistics == "on" else BareEngine(settings)
    uvicorn.run(create_app(settings, engine), port=settings.port, log_level="warning", access_log=False)


def load(port: int, clients: int, script: str) -> float:
    """Requests/s that wrk gets from the second core."""
    command = [
        "taskset",
        "-c",
        "1",
        "wrk",
        "-t1",
        f"-c{clients}",
        f"-d{SECONDS}s",
        "-s",
        script,
        f"http://127.0.0.1:{port}",
    ]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "Non-2xx" not in printed, printed
    found = re.search(r"Requests/sec:\s+([\d.]+)", printed)
    assert found, printed
    return float(found[1])


def main() -> None:
    services = {name: subprocess.Popen([sys.executable, "-m", "benchmarks.overhead", name]) for name in PORTS}
    table = Table("clients", "off, requests/s", "on, requests/s", "time on / off", "10 to 90 % of rounds")
    try:
        with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
            script.write(SCRIPT)
            script.flush()
            wait(script.name)
            for clients in CLIENTS:
                table.add_row(str(clients), *measure(clients, script.name))
    finally:
        for service in services.values():
            service.terminate()
    Console().print(table)


def wait(script: str) -> None:
    """Until both services answer."""
    for port in PORTS.values():
        subprocess.run(
            [
                "curl",
                "-sf",
                "--retry",
                "60",
                "--retry-connrefused",
                "--retry-delay",
                "1",
                f"http://127.0.0.1:{port}/health/ready",
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        load(port, 32, script)


def measure(clients: int, script: str) -> list[str]:
    rates: dict[str, list[float]] = {name: [] for name in PORTS}
    for number in range(ROUNDS):
        for name in list(PORTS)[:: 1 if number % 2 else -1]:
            rates[name].append(load(PORTS[name], clients, script))
    per_request = {name: [1 / rate for rate in found] for name, found in rates.items()}
    timing = summarize(per_request["on"], per_request["off"])
    medians = [f"{np.median(rates[name]):,.0f}" for name in PORTS]
    low, high = timing.spread
    return [*medians, f"{timing.ratio:.3f}", f"{low:.3f} to {high:.3f}"]


if __name__ == "__main__":
    serve(sys.argv[1]) if len(sys.argv) > 1 else main()
