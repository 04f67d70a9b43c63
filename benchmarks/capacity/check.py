"""`python -m benchmarks.capacity.check --model models/intents/1`: the simulation beside one and two real workers.

One worker has a core of its own, and so has the load. Two workers have both cores, and the load is a guest there: so
requests have 8 texts, which take the workers a hundred times what they take the load. Takes four minutes.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydantic import Field
from pydantic_settings import BaseSettings, CliApp
from rich.console import Console

from benchmarks.capacity.costs import Costs, Measured, Served
from benchmarks.capacity.dispatch import Pool
from benchmarks.capacity.measure import measure, on_core, read_texts, under_load
from benchmarks.capacity.service import serving
from benchmarks.capacity.simulate import Simulated, poisson_load, simulate
from benchmarks.document import markdown, write_tables
from benchmarks.serving.processes import LOAD_CORE, SERVICE_CORE
from benchmarks.serving.servers import ROOT
from runtime.options import option_config

DOCUMENT = ROOT / "docs" / "capacity.md"
ROWS, REST = 8, 1e-4  # texts of a request to two workers; seconds that their load sleeps
REQUESTS = 40_000  # of a simulation
HEADER = (
    "workers, texts a request", "load", "requests/s", "CPU of a worker", "batch: measured, simulated",
    "p50 ms: measured, simulated", "ratio", "p99 ms: measured, simulated, without pauses", "ratio",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Compared:
    """One load, measured and simulated; latencies in seconds.

    Attributes:
        utilization: CPU time of the service over that of its cores, as measured; looking for requests is in it.
        without: the simulation of a machine without pauses.
        wire: what is added to the simulated latencies.
    """

    measured: Served
    utilization: float
    simulated: Simulated
    without: Simulated
    wire: float

    def row(self) -> list[str]:
        served, simulated = self.measured, self.simulated
        p50, p99, calm = (
            run.percentile(percent) + self.wire
            for run, percent in ((simulated, 50), (simulated, 99), (self.without, 99))
        )
        return [
            f"{served.workers}, {served.rows}",
            f"{served.load:g}",
            f"{served.answered:,.0f}",
            f"{self.utilization:.2f}, {simulated.utilization:.2f}",
            f"{served.batch:.1f}, {simulated.batch:.1f}",
            f"{1e3 * served.p50:.2f}, {1e3 * p50:.2f}",
            f"{p50 / served.p50:.2f}",
            f"{1e3 * served.p99:.1f}, {1e3 * p99:.1f}, {1e3 * calm:.1f}",
            f"{p99 / served.p99:.2f}",
        ]


def compare(costs: Costs, served: Served) -> Compared:
    """Simulates what was asked of a service, over the connections that its load opens."""
    lengths, rng = np.array(costs.lengths, dtype=float), np.random.default_rng(1)
    load = poisson_load(served.offered, REQUESTS / served.offered, lengths, rng, served.rows)
    runs = [simulate(costs.worker(pauses), served.workers, Pool, load) for pauses in (True, False)]
    return Compared(served, served.cpu * served.answered / served.workers, *runs, costs.wire)


def table(compared: list[Compared]) -> str:
    return markdown(HEADER, [each.row() for each in compared])


class Check(BaseSettings):
    """Measures one and two workers, simulates them, and prints both."""

    model_config = option_config("python -m benchmarks.capacity.check")

    model: Path = Path("models/intents/1")
    """Artifact."""
    texts: Path | None = None
    """File of texts, one a line; short questions otherwise."""
    seconds: float = Field(8.0, gt=0)
    """Of each load."""
    write: bool = False
    """Fills the table in docs/capacity.md."""

    def cli_cmd(self) -> None:
        console = Console(stderr=True)
        texts = read_texts(self.texts)
        one = measure(self.model, texts, 1, self.seconds, console.print)
        found = [compare(one.costs, load) for load in one.loads]
        found += self.two_workers(one, texts, console)
        printed = f"{one.costs.machine}.\n\n{table(found)}"
        print(printed)
        if self.write:
            write_tables(DOCUMENT, {"capacity check": printed})

    def two_workers(self, one: Measured, texts: list[str], console: Console) -> list[Compared]:
        """Requests of ROWS texts: to one worker, which gives the costs, then to two, which are predicted."""
        with on_core(LOAD_CORE), serving(self.model, texts, ROWS, 1) as service:
            answered, loads = under_load(service, self.seconds, console.print)
        costs = replace(one.costs, rows=ROWS, **answered._asdict())
        with serving(self.model, texts, ROWS, 2, f"{SERVICE_CORE},{LOAD_CORE}") as service:
            both, of_two = under_load(service, self.seconds, console.print, REST)
        share = both.most.answered / costs.most.answered
        generator = max(load.generator for load in of_two)
        console.print(f"two workers: {share:.2f} times the capacity of one; their load takes {generator:.0%} of a core")
        return [compare(costs, load) for load in loads + of_two]


if __name__ == "__main__":
    CliApp.run(Check)
