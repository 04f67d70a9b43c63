"""How fast a run could be: what a network computes and moves, over what the machine can do of either.

    time_min = max(FLOPs / matmul ceiling, bytes / copy ceiling, fed bytes / feed ceiling)

This is the roofline (Williams et al. 2009, doi:10.1145/1498765.1498785), with the way to a GPU as a third ceiling: a
run takes its inputs from the host's memory, as the service does. A cache is faster than the copy ceiling: on a CPU,
little networks may lie above their roof.
"""

from dataclasses import dataclass

from benchmarks.gpu.batches import Batch
from benchmarks.gpu.network import Shape

BYTES = {"fp32": 4, "fp16": 2}


@dataclass(frozen=True, slots=True)
class Work:
    """What one run needs.

    Attributes:
        flops: multiplications and additions, each counted.
        moved: bytes read and written in the device's memory.
        fed: bytes of the inputs.
    """

    flops: float
    moved: float
    fed: float


@dataclass(frozen=True, slots=True)
class Bound:
    """The shortest time of a run.

    Attributes:
        seconds: of the ceiling that binds.
        binds: `matmul`, `copy` or `feed`.
    """

    seconds: float
    binds: str


def matmul_parameters(shape: Shape) -> int:
    """Of the blocks' matrices: layers * (4 D^2 + 2 D F)."""
    return shape.num_layers * (4 * shape.d_model**2 + 2 * shape.d_model * shape.d_ff)


def block_flops(shape: Shape, packs: int, width: int) -> float:
    """Of the blocks, forwards: 2 * parameters * P S, and attention's 4 P S^2 D in every layer."""
    linear = 2.0 * matmul_parameters(shape) * packs * width
    return linear + 4.0 * packs * width**2 * shape.d_model * shape.num_layers


def pooling_flops(shape: Shape, rows: int, packs: int, width: int) -> float:
    """Of the pooling and the head: 2 R P S D + 2 R D C. The pooling grows with rows times tokens."""
    return 2.0 * rows * shape.d_model * (packs * width + shape.num_classes)


def inference_work(shape: Shape, batch: Batch, precision: str) -> Work:
    """Of a run of the graph; padding is computed, and counts.

    Bytes: every matrix is read once, and every token's activations enter and leave each linear layer and attention
    once, 14 D + 2 F numbers a layer; norms, biases, GELU and residual sums are taken to be part of these. Numbers have
    the size of the graph's precision.
    """
    packs, width = batch.packs
    size = BYTES[precision]
    activations = packs * width * shape.num_layers * (14 * shape.d_model + 2 * shape.d_ff)
    return Work(
        flops=block_flops(shape, packs, width) + pooling_flops(shape, batch.rows, packs, width),
        moved=size * float(matmul_parameters(shape) + activations) + batch.fed_bytes,
        fed=float(batch.fed_bytes),
    )


def training_flops(shape: Shape, rows: int, tokens: int) -> float:
    """Of a training step: three times the forward pass, so 6 * parameters * tokens + 12 R S^2 D layers.

    Kaplan et al. 2020, arXiv:2001.08361, section 2.1. Parameters are those of the blocks: a look-up costs no FLOPs.
    Pooling takes as many packs as rows.
    """
    return 3 * (block_flops(shape, rows, tokens) + pooling_flops(shape, rows, rows, tokens))


def shortest(work: Work, matmul: float, copy: float, feed: float | None) -> Bound:
    """The ceiling that binds.

    Args:
        matmul: FLOP/s.
        copy: bytes/s, read and written.
        feed: bytes/s from the host to the device; None where both are one.
    """
    times = {"matmul": work.flops / matmul, "copy": work.moved / copy}
    if feed is not None:
        times["feed"] = work.fed / feed
    binds = max(times, key=times.__getitem__)
    return Bound(times[binds], binds)
