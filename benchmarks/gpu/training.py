"""How fast the network is trained in PyTorch: AdamW, in bfloat16 (autocast) on a GPU, in float32 on a CPU."""

import copy
import statistics
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.gpu.batches import lay_out
from benchmarks.gpu.bounds import training_flops
from benchmarks.gpu.network import Network, Shape
from benchmarks.gpu.parity import make_network
from benchmarks.gpu.sessions import Weights
from benchmarks.gpu.settings import CPU_FLOPS, CPU_TRAINING, TRAINED, Entries, Missing, Setting
from benchmarks.gpu.speed import left_uncompiled
from benchmarks.gpu.timing import in_turns, percentile, synchronize, working

LEARNING_RATE = 1e-4
PRECISION = {"cuda": "bf16", "cpu": "fp32"}


def train(
    name: str,
    shape: Shape,
    weights: Weights,
    setting: Setting,
    ceilings: Mapping[str, Mapping[str, float | None]],
    compiles: str,
) -> Iterator[tuple[Entries, Missing]]:
    """One entry for each batch, and what was not run; arguments as `speed.speed`."""
    device = setting.device
    why = left_uncompiled(name, device, PRECISION[device])
    if why and not compiles:
        yield [], [{"what": f"training compile {name}", "why": why}]
    compiles = compiles or why
    for rows, tokens in TRAINED[device]:
        tokens = min(tokens, shape.max_tokens)
        what = f"training {name} {rows} x {tokens}"
        flops, ceiling = training_flops(shape, rows, tokens), ceilings[device].get(PRECISION[device])
        largest = CPU_TRAINING * CPU_FLOPS[setting.size] if device == "cpu" else float("inf")
        if setting.over or flops > largest:
            late = "time is up" if setting.over else f"over {largest / 1e9:g} GFLOP, on a CPU"
            yield [], [{"what": what, "why": late}]
            continue
        able, failed = working(steps(shape, weights, device, rows, tokens, not compiles))
        times = in_turns(able, setting.effort(device)) if able else {}
        found = {kind: rates(seconds, rows * tokens, flops, ceiling) for kind, seconds in times.items()}
        entry = {"network": name, "precision": PRECISION[device], "device": device, "rows": rows, "tokens": tokens}
        yield (
            [entry | {"flops": flops, "variants": found}],
            [{"what": f"{what} {kind}", "why": failed[kind]} for kind in failed],
        )


def steps(
    shape: Shape, weights: Weights, device: str, rows: int, tokens: int, compiled: bool
) -> dict[str, Callable[[], object]]:
    """A training step of each kind, over weights of its own: one sequence a pack, labels at random."""
    inputs = lay_out([tokens] * rows, tokens, shape.vocab_size).tensors(device)
    labels = torch.arange(rows, device=device) % shape.num_classes
    found: dict[str, Callable[[], object]] = {}
    for kind in ("eager", *(["compile"] if compiled else [])):
        network = copy.deepcopy(make_network(shape, weights)).to(device).train()
        forward = torch.compile(network) if kind == "compile" else network
        found[kind] = step_of(network, forward, inputs, labels, device)
    return found


def step_of(
    network: Network, forward: Callable[..., Tensor], inputs: tuple[Tensor, ...], labels: Tensor, device: str
) -> Callable[[], object]:
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE)

    def step() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            loss = F.cross_entropy(forward(*inputs).float(), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        synchronize(device)

    return step


def rates(seconds: list[float], tokens: int, flops: float, ceiling: float | None) -> dict[str, float | None]:
    """`of_ceiling`: the step's FLOP/s over those of a matrix multiplication."""
    median = statistics.median(seconds)
    return {
        "median_s": median,
        "p99_s": percentile(seconds, 0.99),
        "rounds": len(seconds),
        "tokens_per_s": tokens / median,
        "flops_per_s": flops / median,
        "of_ceiling": flops / median / ceiling if ceiling else None,
    }
