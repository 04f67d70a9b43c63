"""The tables of what was measured, and the file with every number."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.adopted.no_server import SINGLE, SORTED
from benchmarks.adopted.results import Ratio, Results, Sample, cpu_rate, latency, rate
from benchmarks.adopted.workloads import LONG, MANY, ONE, ROWS, Scenario
from benchmarks.serving.report import machine


def show(results: Results, how: str, console: Console) -> None:
    console.print(f"\n{machine(how)}\n", highlight=False)
    console.print(server_table(results))
    console.print(scenario_table(results, (MANY, *LONG), rate, "texts/s over no server, 32 clients"))
    in_cpu = "the same, in texts per second of the core's time that each had"
    console.print(scenario_table(results, (MANY, ROWS, *LONG), cpu_rate, in_cpu))
    console.print(statistics_table(results))


def server_table(results: Results) -> Table:
    """Ratios to no server with short texts, start and memory; no server's own row has what they are ratios to."""
    columns = ("1 client, latency / (tokenize + run)", "32 clients", "rows of 32", "start, s", "PSS, MB", "RSS, MB")
    table = make_table("Short texts: texts/s over no server, unless said otherwise", "", *columns)
    one = 1e3 * results.median(ONE.name, SINGLE, latency)
    absolute = [f"{results.median(scenario.name, SORTED, rate):,.0f} texts/s" for scenario in (MANY, ROWS)]
    table.add_row(SORTED, f"{one:.2f} ms", *absolute, "", "", "")
    for name, starts in results.starts.items():
        table.add_row(
            name,
            cell(results, ONE, name, latency),
            cell(results, MANY, name, rate),
            cell(results, ROWS, name, rate),
            f"{np.median([start.seconds for start in starts]):.2f}",
            f"{np.median([start.pss for start in starts]) / 1e6:.0f}",
            f"{np.median([start.rss for start in starts]) / 1e6:.0f}",
        )
    return table


def scenario_table(
    results: Results, scenarios: Sequence[Scenario], number: Callable[[Sample], float], title: str
) -> Table:
    """A column for each scenario, a row for each server and each way without one."""
    measured = [scenario for scenario in scenarios if (scenario.name, SORTED) in results.samples]
    table = make_table(title, "", *(scenario.name for scenario in measured))
    absolute = [f"{results.median(scenario.name, SORTED, number):,.1f} texts/s" for scenario in measured]
    table.add_row(SORTED, *absolute)
    for name in results.names(MANY.name):
        if name != SORTED:
            table.add_row(name, *(cell(results, scenario, name, number) for scenario in measured))
    return table


def cell(results: Results, scenario: Scenario, name: str, number: Callable[[Sample], float]) -> str:
    """A ratio to no server, and the requests that failed."""
    parts = (show_ratio(results.ratio(scenario.name, name, number)), results.failures(scenario.name, name))
    return "\n".join(part for part in parts if part)


def statistics_table(results: Results) -> Table:
    table = make_table("Statistics without a server, batches of 32: time over time without", "", "ratio")
    for title, ratio in results.statistics_ratios().items():
        table.add_row(title, show_ratio(ratio, 3))
    return table


def make_table(title: str, first: str, *columns: str) -> Table:
    table = Table(first, title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="right")
    return table


def show_ratio(ratio: Ratio | None, digits: int = 2) -> str:
    """The median, with the least and the most where there were several rounds."""
    if ratio is None:
        return ""
    median, least, most = (f"{value:.{digits}f}" for value in (ratio.median, ratio.least, ratio.most))
    return median if ratio.least == ratio.most else f"{median} ({least} to {most})"


def write(results: Results, how: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine(how)} | results.raw(), indent=1) + "\n")
