"""`python -m benchmarks.capacity --model models/intents/1 --rate 1000`: what so many requests a second take.

It measures one worker with the artifact on this machine (two minutes, two cores), and simulates the rest.
"""

import json
from dataclasses import asdict
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, CliApp
from rich.console import Console

from benchmarks.capacity.check import DOCUMENT, compare, table
from benchmarks.capacity.costs import Costs, Measured
from benchmarks.capacity.measure import Tell, measure, read_texts
from benchmarks.capacity.plan import Aim, Fleet, needs, p99_limit, plan
from benchmarks.capacity.tables import answer_table, beyond_table, costs_table, limits_table, policy_table
from benchmarks.document import write_tables
from runtime.options import option_config

Plans = list[tuple[Aim, list[Fleet]]]


class Capacity(BaseSettings):
    """Says how many cores, how much memory and network so many requests a second take."""

    model_config = option_config("python -m benchmarks.capacity")

    model: Path = Path("models/intents/1")
    """Artifact that gives labels or embeddings of texts."""
    rate: list[float] = [1000.0, 50_000.0]
    """Requests a second; several give a column each."""
    texts: Path | None = None
    """File of texts like those that will be asked, one a line; short questions otherwise."""
    rows: int = Field(1, ge=1, le=128)
    """Texts of a request."""
    p99_ms: float | None = Field(None, gt=0)
    """Limit of the latency that 99 % of the requests keep; otherwise five times one request alone, at least 50 ms."""
    utilization: float = Field(0.7, gt=0, lt=1)
    """Most of the measured capacity that is used."""
    cores: int = Field(8, ge=1)
    """Cores of a machine."""
    burst: float = Field(1.0, ge=1)
    """Requests that come together, on average."""
    seconds: float = Field(8.0, gt=0)
    """Of each load that is measured."""
    costs: Path | None = None
    """What --json wrote before, in the place of measuring."""
    json_file: Path | None = Field(None, alias="json")
    """File that takes everything as JSON."""
    write: bool = False
    """Fills the tables in docs/capacity.md."""

    def cli_cmd(self) -> None:
        tell = Console(stderr=True).print
        found = self.measured(tell)
        plans: Plans = []
        for rate in self.rate:
            tell(f"simulating {rate:,.0f} requests/s")
            aim = Aim(rate, p99_limit(found.costs, self.p99_ms), self.utilization, self.cores, self.burst)
            plans.append((aim, plan(found.costs, aim)))
        tables = make_tables(found, plans)
        limit = plans[0][0].p99
        print(f"p99 of at most {1e3 * limit:.0f} ms, at most {self.utilization:g} of the measured capacity.")
        for name, content in tables.items():
            print(f"\n{name}\n\n{content}")
        if self.json_file:
            self.json_file.write_text(json.dumps(document(found, plans), indent=1) + "\n")
        if self.write:
            write_tables(DOCUMENT, tables)

    def measured(self, tell: Tell) -> Measured:
        if self.costs:
            return Measured.read(self.costs)
        return measure(self.model, read_texts(self.texts), self.rows, self.seconds, tell)


def make_tables(found: Measured, plans: Plans) -> dict[str, str]:
    """By their names in docs/capacity.md."""
    costs, (aim, fleets) = found.costs, plans[-1]
    return {
        "capacity answer": answer_table(costs, plans),
        "capacity policies": policy_table(plans),
        "capacity costs": f"{costs.machine}.\n\n{costs_table(costs)}",
        "capacity one worker": table([compare(costs, load) for load in found.loads]),
        "capacity beyond": beyond_table(costs, aim, fleets),
        "capacity limits": limits_table(costs, aim, fleets),
    }


def document(found: Measured, plans: Plans) -> dict[str, object]:
    costs: Costs = found.costs
    made = [
        {"aim": asdict(aim), "fleets": [asdict(each) | {"needs": asdict(needs(costs, aim, each))} for each in fleets]}
        for aim, fleets in plans
    ]
    return {"measured": found.to_json(), "plans": made}


if __name__ == "__main__":
    CliApp.run(Capacity)
