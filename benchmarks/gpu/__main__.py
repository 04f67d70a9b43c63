"""`python -m benchmarks.gpu --graphs DIR`: everything that there is to measure on a machine with a GPU.

It needs torch, numpy and onnxruntime, this folder, and the one that `python -m benchmarks.gpu.graphs` writes; weights
are drawn by seed. On a CPU it runs the same lines over a few small batches, with --quick in about a minute. Where a
card is lent for minutes: one network at a time (--network), and --minutes; --json has what was found until then.
"""

import argparse
import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path

import onnxruntime as ort
import torch

from benchmarks.gpu.batches import ragged
from benchmarks.gpu.ceilings import ceilings, machine
from benchmarks.gpu.parity import check, expect, make_network
from benchmarks.gpu.sessions import LIST, PROVIDERS, Graph, Weights, content, make_weights, open_session, read_graphs
from benchmarks.gpu.settings import Entries, Missing, Report, Setting
from benchmarks.gpu.speed import speed, why_not_compiled
from benchmarks.gpu.tables import tables
from benchmarks.gpu.timing import reason
from benchmarks.gpu.training import train

PARTS = ("parity", "speed", "training")


def main(arguments: Sequence[str] | None = None) -> None:
    given = parser().parse_args(arguments)
    graphs = [graph for graph in read_graphs(given.graphs) if graph.network in (given.network or [graph.network])]
    if not graphs:
        raise SystemExit(f"{given.graphs} has no such network: see its {LIST}.")
    setting, note = settle(given, graphs[0])
    report = Report(given.json)
    report.results |= {"device": setting.device, "provider": setting.provider, "note": note}
    torch.set_num_threads(setting.threads)
    if setting.device == "cuda":  # as onnxruntime does by default
        torch.set_float32_matmul_precision("high")
    report.progress(note)
    report.results["machine"] = machine(setting.device, setting.threads)
    report.results["ceilings"] = roofs(setting, report)
    run_all(graphs, given.part or PARTS, setting, report)
    report.write()
    print(tables(report.results, report.not_run))
    report.progress("done")


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="Measures graphs on a GPU or a CPU.")
    found.add_argument("--graphs", type=Path, required=True, help="folder of python -m benchmarks.gpu.graphs")
    found.add_argument("--device", choices=("cuda", "cpu"), help="by default a GPU, where torch finds one")
    found.add_argument("--quick", action="store_true", help="fewer batches, and less time for each")
    found.add_argument("--json", type=Path, help="file for all results; written after every step")
    found.add_argument("--threads", type=int, default=1, help="of the CPU; 1 by default, as a worker of the service")
    found.add_argument("--network", action="append", help="a network to measure; may be given again; by default all")
    found.add_argument("--part", action="append", choices=PARTS, help="a part to run; may be given again")
    found.add_argument("--minutes", type=float, default=math.inf, help="after which nothing more is begun")
    return found


def settle(given: argparse.Namespace, graph: Graph) -> tuple[Setting, str]:
    """Where everything runs, and a sentence on it.

    Args:
        graph: any, to see whether the provider loads.

    Raises:
        SystemExit: torch finds no GPU, but one was asked for.
    """
    if given.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("Device cuda is not available: torch finds no GPU.")
    device = given.device or ("cuda" if torch.cuda.is_available() else "cpu")
    why = why_no_provider(device, graph) if device != "cpu" else ""
    provider = "cpu" if why else device
    note = f"torch runs on {device}, onnxruntime on {PROVIDERS[provider]}."
    if why:
        note += f" {PROVIDERS[device]} cannot be had ({why}): all rows of ONNX are the CPU's."
    if device == "cpu":
        note += " No GPU is measured: a few small batches show that everything works, and how fast this CPU is."
    size = "quick" if given.quick else "full"
    return Setting(device, provider, given.threads, size, time.monotonic() + 60 * given.minutes), note


def why_no_provider(device: str, graph: Graph) -> str:
    """Why onnxruntime cannot run on a GPU, such as for want of a library; empty where it can."""
    if PROVIDERS[device] not in ort.get_available_providers():
        return f"this onnxruntime {ort.__version__} goes without"
    ort.preload_dlls()
    try:
        open_session(graph, content(graph, make_weights(graph.shape)), device, "default", 1)
    except Exception as error:  # onnxruntime's exceptions have no common base of their own
        return reason(error)
    return ""


def roofs(setting: Setting, report: Report) -> dict[str, dict[str, float | None]]:
    """The ceilings of every device that is used."""
    found = {}
    for device in dict.fromkeys((setting.device, setting.provider)):
        report.progress(f"ceilings of {device}")
        found[device], missing = ceilings(device)
        report.not_run += missing
    return found


def run_all(graphs: Sequence[Graph], parts: Sequence[str], setting: Setting, report: Report) -> None:
    """All parts of one network after the other."""
    report.progress("whether torch.compile works")
    compiles = why_not_compiled(setting.device, setting.size)
    if compiles:
        report.skip("torch compile", compiles)
    roof = report.results["ceilings"]
    for name, each in groupby(graphs, key=lambda graph: graph.network):
        mine = list(each)
        shape, weights = mine[0].shape, make_weights(mine[0].shape)
        if "parity" in parts:
            attempt("parity", name, report, partial(compare, mine, weights, setting))
        for precision, same in groupby(mine, key=lambda graph: graph.precision):
            if "speed" in parts:
                run = partial(speed, list(same), weights, setting, roof, compiles)
                attempt("speed", f"{name} {precision}", report, run)
        if "training" in parts:
            attempt("training", name, report, partial(train, name, shape, weights, setting, roof, compiles))


def attempt(part: str, what: str, report: Report, run: Callable[[], Iterator[tuple[Entries, Missing]]]) -> None:
    """Runs one step and keeps what it finds; where it fails, says why and goes on, for a card is lent for minutes."""
    report.progress(f"{what}: {part}")
    try:
        for entries, missing in run():
            report.add(part, entries, missing)
    except Exception as error:  # such as for want of memory
        report.skip(f"{part} {what}", reason(error))
    if torch.cuda.is_available():  # what torch keeps of a GPU's memory, onnxruntime cannot have
        torch.cuda.empty_cache()


def compare(graphs: Sequence[Graph], weights: Weights, setting: Setting) -> Iterator[tuple[Entries, Missing]]:
    """Parity, statistics and placement of a network's graphs."""
    shape = graphs[0].shape
    batch = ragged(shape.vocab_size)
    expected = expect(make_network(shape, weights), batch)
    for graph in graphs:
        if graph.statistics:
            yield check(graph, weights, expected, batch, setting.provider, setting.threads)


if __name__ == "__main__":
    main()
