"""The serving benchmark's tables and chart, as docs/benchmarks.md holds them."""

import json
import math
import os
import platform
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.document import markdown, write_tables
from benchmarks.serving.closed_loop import MANY, ONE, ROWS, SCENARIOS
from benchmarks.serving.limit import NAME as LIMIT
from benchmarks.serving.results import MAIN, Phase, Results, floors, median_latency, percentile, rate, targets
from benchmarks.serving.servers import OURS, ROOT
from export.timing import Timing

DOCUMENT, CHART = ROOT / "docs" / "benchmarks.md", ROOT / "docs" / "img" / "serving.png"
SHOWN = {MANY: "single texts, 32 clients", ROWS: "requests of 32 texts"}


def write_report(results: Results, how: str, folder: Path, document: bool, console: Console) -> None:
    """Prints the tables, and writes them with the chart and every sample into `folder`, and into the document."""
    tables = {
        "serving": f"{machine(how)}\n\n{servers_table(results)}",
        "serving targets": targets_table(results),
        "serving floor": floor_table(results),
        "serving load": load_table(results),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "serving.md").write_text("\n\n".join(tables.values()) + "\n")
    (folder / "serving.json").write_text(json.dumps(raw(results), indent=1) + "\n")
    draw(results, folder / "serving.png")
    console.print("\n\n".join(tables.values()), markup=False, highlight=False, soft_wrap=True)
    console.print(f"\nWritten to {folder}: serving.md, serving.json, serving.png", highlight=False)
    if document:
        write_tables(DOCUMENT, tables)
        draw(results, CHART)


def machine(how: str) -> str:
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    model = names[0].partition(":")[2].strip() if names else platform.processor()
    packages = ", ".join(f"{name} {version(name)}" for name in ("onnxruntime", "tokenizers", "fastapi", "uvicorn"))
    cores = f"{os.cpu_count()} cores ({model})"
    return f"{cores}, Python {platform.python_version()}, {packages}; {how}, {datetime.now(UTC):%Y-%m-%d}."


def servers_table(results: Results) -> str:
    """Texts/s of every server in every scenario, and what it costs."""
    header = [
        "",
        *(f"{s.name}, texts/s" for s in SCENARIOS),
        "1 client, p50 ms",
        "share of its core",
        "MB (PSS)",
        "start, s",
    ]
    rows = []
    for artifact, name in dict.fromkeys((artifact, name) for artifact, _, name in results.samples):
        keys = [(artifact, scenario, name) for scenario in SCENARIOS]
        numbers = [f"{results.median(key, rate):,.0f}" if key in results.samples else "" for key in keys]
        latency = 1e3 * results.median((artifact, ONE, name), median_latency)
        busy = results.median((artifact, MANY, name), lambda sample: sample.busy)
        sizes = results.memory.get((artifact, name), [])
        memory = f"{sum(sizes) / 1e6:.0f}" + (f" in {len(sizes)} processes" if len(sizes) > 1 else "")
        start = np.median(results.first_answer.get((artifact, name), [math.nan]))
        cost = [memory, f"{start:.2f}"] if sizes else ["", ""]
        rows.append([f"{name}, {artifact}", *numbers, f"{latency:.2f}", f"{busy:.2f}", *cost])
    return markdown(header, rows)


def targets_table(results: Results) -> str:
    rows = []
    for target in targets(results):
        spread = f" ({target.spread[0]:.2f} to {target.spread[1]:.2f})" if target.spread else ""
        in_cpu = "" if math.isnan(target.in_cpu_time) else f"{target.in_cpu_time:.2f}"
        limit = f"{'at least' if target.at_least else 'at most'} {target.limit:g}"
        rows.append([target.name, f"{target.measured:.2f}{spread}", in_cpu, limit, "yes" if target.met else "**no**"])
    return markdown(["", "measured", "in CPU time", "target", "met"], rows)


def floor_table(results: Results) -> str:
    header = ["", "bare uvloop / no HTTP", "AddNorm / bare uvloop"]
    return markdown(header, [[floor.name, spread(floor.bare), spread(floor.ours)] for floor in floors(results)])


def spread(timing: Timing) -> str:
    low, high = timing.spread
    return f"{timing.ratio:.2f} ({low:.2f} to {high:.2f})"


def load_table(results: Results) -> str:
    """What became of requests that came at random times: medians over the rounds."""
    header = ["offered", "requests/s", "answered/s", "p50 ms", "p99 ms", "429", "429: p50 ms", "p99 ms", "unanswered"]
    header.append("sent late, p99 ms")
    rows = []
    for load in sorted({phase.load for phase in results.phases}):
        columns = np.array([numbers(phase) for phase in results.phases if phase.load == load])
        offered, answered, p50, p99, refused, p50_429, p99_429, unanswered, late = map(middle, columns.T)
        refusals = [f"{1e3 * p50_429:.1f}", f"{1e3 * p99_429:.1f}"] if refused else ["", ""]
        rows.append(
            [
                f"{load:g} x capacity",
                f"{offered:,.0f}",
                f"{answered:,.0f}",
                f"{1e3 * p50:.1f}",
                f"{1e3 * p99:.1f}",
                f"{refused:.0%}",
                *refusals,
                f"{unanswered:.1%}",
                f"{1e3 * late:.2f}",
            ]
        )
    return markdown(header, rows)


def middle(column: NDArray[np.float64]) -> float:
    """The median of what is a number; nan where nothing is."""
    found = column[~np.isnan(column)]
    return float(np.median(found)) if len(found) else math.nan


def numbers(phase: Phase) -> list[float]:
    """What overload_table shows of one phase, in seconds and shares."""
    answers = phase.answers
    end = np.nanmax(answers.answered[answers.status == 200], initial=0)
    return [
        len(answers.due) / answers.due[-1],
        (answers.status == 200).sum() / end if end else 0.0,
        percentile(phase, 50),
        percentile(phase, 99),
        answers.share(429),
        percentile(phase, 50, 429),
        percentile(phase, 99, 429),
        1 - answers.share(200) - answers.share(429),
        float(np.nanpercentile(answers.sent - answers.due, 99)),
    ]


def raw(results: Results) -> dict[str, object]:
    return {
        "closed": [
            {"artifact": artifact, "scenario": scenario.name, "server": name, "samples": list(map(asdict, samples))}
            for (artifact, scenario, name), samples in results.samples.items()
        ],
        "open": [{"load": p.load, "capacity": p.capacity, "numbers": numbers(p)} for p in results.phases],
        "first_answer": [[*key, *seconds] for key, seconds in results.first_answer.items()],
        "memory": [[*key, *found] for key, found in results.memory.items()],
        "several": results.several,
    }


def draw(results: Results, path: Path) -> None:
    """Texts/s of every server beside the limit, and latency under an open load."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    bars, curve = figure.subplots(1, 2, width_ratios=(3, 2))
    names = [name for artifact, scenario, name in results.samples if artifact == MAIN and scenario is MANY]
    for offset, (scenario, label) in enumerate(SHOWN.items()):
        heights = [results.median((MAIN, scenario, name), rate) for name in names]
        positions = np.arange(len(names)) + 0.4 * offset - 0.2
        bars.barh(positions, heights, 0.38, label=label, color=("tab:blue", "0.7")[offset])
    bars.set_yticks(range(len(names)), [f"{name}" for name in names])
    bars.get_yticklabels()[names.index(OURS)].set_fontweight("bold") if OURS in names else None
    bars.invert_yaxis()
    bars.set_xlabel("texts per second on one core")
    if LIMIT in names:
        bars.axvline(results.median((MAIN, MANY, LIMIT), rate), color="0.4", linewidth=1, linestyle="--")
    bars.legend(fontsize=8)
    loads = sorted({phase.load for phase in results.phases})
    for percent in (50, 99):
        medians = [
            1e3 * np.median([percentile(phase, percent) for phase in results.phases if phase.load == load])
            for load in loads
        ]
        curve.plot(range(len(loads)), medians, marker="o", label=f"p{percent}")
    curve.set_xticks(range(len(loads)), [f"{load:g} x" for load in loads])
    curve.set(xlabel="requests offered / capacity, open loop", ylabel="ms until answered", yscale="log")
    curve.legend(fontsize=8)
    for axes in (bars, curve):
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
    figure.savefig(path, dpi=110)
