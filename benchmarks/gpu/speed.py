"""How fast a network is: its graphs in both plans, with and without statistics, and PyTorch, all in turns."""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import torch

from benchmarks.gpu.batches import Batch, even
from benchmarks.gpu.bounds import Bound, inference_work, shortest
from benchmarks.gpu.network import Shape
from benchmarks.gpu.parity import make_network
from benchmarks.gpu.sessions import PLANS, Graph, Session, Weights, content, open_session
from benchmarks.gpu.settings import Cell, Entries, Missing, Setting, cells
from benchmarks.gpu.timing import in_turns, percentile, ratio, reason, working

DTYPES = {"fp32": torch.float32, "fp16": torch.float16}
EAGER, COMPILED = "torch eager", "torch compile"
COMPILED_ON_CPU = "embedded"  # compiling takes a minute each on a CPU

Run = Callable[[Batch], object]
Ceilings = Mapping[str, float | None]


def onnx_name(plan: str, observed: bool) -> str:
    return f"onnx {plan}{'' if observed else ', bare'}"


# what a price or a gain is the ratio of; the first over the second
RATIOS = {
    "statistics, default": (onnx_name("default", True), onnx_name("default", False)),
    "statistics, unfused": (onnx_name("unfused", True), onnx_name("unfused", False)),
    "unfused / default": (onnx_name("unfused", True), onnx_name("default", True)),
    "eager / default": (EAGER, onnx_name("default", True)),
    "eager / unfused": (EAGER, onnx_name("unfused", True)),
    "compile / eager": (COMPILED, EAGER),
}


def speed(
    graphs: Sequence[Graph], weights: Weights, setting: Setting, ceilings: Mapping[str, Ceilings], compiles: str
) -> Iterator[tuple[Entries, Missing]]:
    """One entry for each batch, as soon as it is measured; and what was not run.

    Args:
        graphs: of one network in one precision, with statistics and without.
        ceilings: by device.
        compiles: why nothing is compiled here, or empty.

    PyTorch and onnxruntime run in the same turns where they run on the same device.
    """
    shape, precision, name = graphs[0].shape, graphs[0].precision, graphs[0].network
    missing: Missing = []
    batches = {device: cells(shape, device, setting.size) for device in {setting.provider, setting.device}}
    groups: dict[str, dict[str, Run]] = {device: {} for device in batches}
    if batches[setting.provider][0]:
        groups[setting.provider] |= graph_runs(graphs, weights, setting, missing)
    if batches[setting.device][0]:
        groups[setting.device] |= network_runs(name, shape, weights, setting.device, precision, compiles, missing)
    for device, runs in groups.items():
        chosen, left_out = batches[device]
        missing += [{"what": f"speed {name} {precision} {joined(cut)}", "why": why} for why, cut in left_out.items()]
        yield [], missing
        missing = []
        for rows, tokens in chosen:
            if setting.over:
                yield [], [{"what": f"speed {name} {precision} {rows} x {tokens}", "why": "time is up"}]
                continue
            batch = even(rows, tokens, shape.vocab_size)
            entry = {"network": name, "precision": precision, "device": device, "rows": rows, "tokens": tokens}
            found, failed = measure(runs, batch, setting, device, bound(shape, batch, precision, ceilings[device]))
            lost = [{"what": f"{key} {name} {precision} {rows} x {tokens}", "why": failed[key]} for key in failed]
            yield [entry | {"packs": batch.packs} | found], lost


def joined(chosen: Sequence[Cell]) -> str:
    return ", ".join(f"{rows} x {tokens}" for rows, tokens in chosen)


def graph_runs(graphs: Sequence[Graph], weights: Weights, setting: Setting, missing: Missing) -> dict[str, Run]:
    """Sessions of all graphs in both plans."""
    runs: dict[str, Run] = {}
    for graph in graphs:
        blob = content(graph, weights)
        for plan in PLANS:
            try:
                opened = open_session(graph, blob, setting.provider, plan, setting.threads)
            except Exception as error:  # onnxruntime's exceptions have no common base of their own
                missing.append({"what": f"speed {graph.path.stem} {plan}", "why": reason(error)})
                continue
            runs[onnx_name(plan, graph.statistics)] = graph_run(opened)
    return runs


def graph_run(opened: Session) -> Run:
    return lambda batch: opened.session.run(None, batch.feeds)


def network_runs(
    name: str, shape: Shape, weights: Weights, device: str, precision: str, compiles: str, missing: Missing
) -> dict[str, Run]:
    """PyTorch, whose inputs come from the host and whose logits go back there, as a session's do."""
    dtype = DTYPES[precision]
    network = make_network(shape, weights).to(device=device, dtype=dtype)
    runs = {EAGER: network_run(network, device, dtype)}
    why = left_uncompiled(name, device, precision)
    if why and not compiles:
        missing.append({"what": f"{COMPILED} {name} {precision}", "why": why})
    elif not compiles:
        runs[COMPILED] = network_run(torch.compile(network, dynamic=True), device, dtype)
    return runs


def network_run(network: Callable[..., torch.Tensor], device: str, dtype: torch.dtype) -> Run:
    def run(batch: Batch) -> object:
        with torch.no_grad():
            return network(*batch.tensors(device, dtype)).cpu()

    return run


def left_uncompiled(name: str, device: str, precision: str) -> str:
    """Why a network is not compiled though it could be; empty where it is."""
    if device != "cpu" or (name == COMPILED_ON_CPU and precision == "fp32"):
        return ""
    return f"compiling takes a minute: on a CPU only {COMPILED_ON_CPU} fp32 is compiled"


def why_not_compiled(device: str, size: str) -> str:
    """Why `torch.compile` cannot be had here, such as for want of a compiler; empty where it can."""
    if device == "cpu" and size == "quick":
        return "compiling takes a minute on a CPU: --quick goes without"
    try:
        torch.compile(lambda x: torch.relu(x) + 1)(torch.ones(64, device=device))
    except Exception as error:  # of torch's compiler, of Triton, of the C++ compiler
        return reason(error)
    return ""


def bound(shape: Shape, batch: Batch, precision: str, ceilings: Ceilings) -> Bound:
    """The shortest time of a run.

    Products of float32 are TF32 on CUDA, by default in onnxruntime and here in PyTorch too. Those of float16 are made
    in float32 where that is faster, as onnxruntime does on a CPU.
    """
    kinds = ("fp32", "tf32") if precision == "fp32" else ("fp32", "fp16")
    matmul, copy = max(ceilings.get(kind) or 0.0 for kind in kinds), ceilings["copy"]
    assert copy is not None
    return shortest(inference_work(shape, batch, precision), matmul, copy, ceilings.get("feed"))


def measure(
    runs: Mapping[str, Run], batch: Batch, setting: Setting, device: str, bound: Bound
) -> tuple[dict[str, Any], dict[str, str]]:
    """Times, rates and ratios of all that run; and why others do not."""
    able, failed = working({name: partial(run, batch) for name, run in runs.items()})
    times = in_turns(able, setting.effort(device)) if able else {}
    found = {name: rates(seconds, batch, bound) for name, seconds in times.items()}
    ratios = {
        title: asdict(ratio(times[first], times[second]))
        for title, (first, second) in RATIOS.items()
        if first in times and second in times
    }
    return {"bound": asdict(bound), "variants": found, "ratios": ratios}, failed


def rates(seconds: list[float], batch: Batch, bound: Bound) -> dict[str, float]:
    median = statistics.median(seconds)
    return {
        "median_s": median,
        "p99_s": percentile(seconds, 0.99),
        "rounds": len(seconds),
        "rows_per_s": batch.rows / median,
        "tokens_per_s": batch.tokens / median,
        "of_ceiling": bound.seconds / median,
    }
