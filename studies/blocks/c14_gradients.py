"""C14: gradients reach the weights of lower layers more weakly than those of higher ones.

Encoders of 6, 12 and 24 layers at initialization, with LayerNorm after or before each sublayer; the blocks' weights are
Xavier's, and twice as large. Measured is the gradient of the feed-forward weights of the first and of the last block,
on 64 digits: its Frobenius norm, in powers of ten, as a mean over 4 initializations.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Literal, cast

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn
from torch.nn import functional as F

from model.network.config import Placement
from model.network.layers import Block
from model.training.norm_record import length, matrices
from studies.claim import Cell, Claim, Comparison, Measures, Results, Setting
from studies.networks import encoder
from studies.pictures import lines
from studies.tasks import Split, digits
from studies.training import batches

DEPTHS, PLACEMENTS, GAINS, BLOCKS = (6, 12, 24), ("post", "pre"), (1.0, 2.0), {"first": 0, "last": -1}
WIDTH, EXAMPLES, DRAWS = 64, 64, 4
TWOFOLD = 0.3  # powers of ten: half as large
TONES = {6: "#56B4E9", 12: "#0072B2", 24: "#003A5D"}  # LayerNorm's colour, darker with depth


def arm(layers: int, placement: str, gain: float, block: str) -> Setting:
    return {"layers": layers, "placement": placement, "gain": gain, "block": block}


def cells(_found: Results, seeds: Sequence[int]) -> Iterator[Cell]:
    for arms in product(DEPTHS, PLACEMENTS, GAINS, BLOCKS):
        yield from (Cell.of(seed, **arm(*arms)) for seed in seeds)


def run(cell: Cell) -> Measures:
    training, _ = digits("sequences", cell.seed)
    curves = []
    for batch in batches(training, EXAMPLES, DRAWS, cell.seed):
        network = encoder("layer_norm", cast(Placement, cell["placement"]), cell.whole("layers"), d_model=WIDTH)
        amplify(network.encoder.blocks, cell.number("gain"))
        curves.append(gradients(network, list(network.encoder.blocks), batch))
    curve = np.mean(curves, axis=0).tolist()
    return {"gradient": curve[BLOCKS[cell.text("block")]], "curve": curve}


@torch.no_grad()
def amplify(blocks: nn.Module, gain: float) -> None:
    """Multiplies the blocks' matrices, not what their norms have."""
    for parameter in blocks.parameters():
        if parameter.dim() == 2:
            parameter.mul_(gain)


def gradients(network: nn.Module, blocks: Sequence[nn.Module], batch: Split) -> list[float]:
    """Norm of the gradient of both feed-forward matrices of each block, in powers of ten: what `addnorm train
    --record-norms` draws of a run, step by step."""
    network.zero_grad()
    F.cross_entropy(network(batch.inputs), batch.targets).backward()  # type: ignore[no-untyped-call]
    feed_forwards = [cast(Block, block).feed_forward for block in blocks]
    grads = [[weight.grad for weight in matrices(each) if weight.grad is not None] for each in feed_forwards]
    return [math.log10(length(each)) for each in grads]


def weaker(text: str, layers: int, placement: Literal["post", "pre"], gain: float) -> Comparison:
    first, last = (arm(layers, placement, gain, block) for block in BLOCKS)
    return Comparison(text, "gradient", first, last, "below", TWOFOLD)


COMPARISONS = (
    weaker("With LayerNorm after the sublayer, the first of 6 blocks has half the last one's gradient", 6, "post", 1.0),
    weaker("of 12 blocks, too", 12, "post", 1.0),
    weaker("and of 24", 24, "post", 1.0),
    weaker("with weights twice as large, the first of 6", 6, "post", 2.0),
    weaker("and of 24", 24, "post", 2.0),
    weaker("With LayerNorm before the sublayer, the first of 6 blocks has half the last one's gradient", 6, "pre", 1.0),
    weaker("and of 24", 24, "pre", 1.0),
    weaker("with weights twice as large, the first of 24", 24, "pre", 2.0),
)


def draw(found: Results, seeds: Sequence[int], figure: Figure) -> None:
    panels = [(placement, gain) for placement in PLACEMENTS for gain in GAINS]
    for axes, (placement, gain) in zip(figure.subplots(1, 4, sharey=True), panels, strict=True):
        for layers in reversed(DEPTHS):
            curves = found.curves("curve", seeds, **arm(layers, placement, gain, "first"))
            at = np.linspace(0, 1, curves.shape[1]).tolist()
            lines(axes, at, curves - curves[:, -1:], TONES[layers], f"{layers} blocks")
        weights = "Xavier" if gain == 1 else "twice Xavier"
        axes.set_title(f"norm {'after' if placement == 'post' else 'before'},\n{weights}")
        axes.axhline(0, color="#BBBBBB", linewidth=0.8, zorder=0)
        axes.set_xticks((0, 1), ("first", "last"))
    figure.axes[0].set_ylabel("gradient of the feed-forward weights,\nover the last block's (powers of ten)")
    figure.axes[0].legend(frameon=False, fontsize=8)
    figure.supxlabel("block", fontsize=10)


CLAIM = Claim(
    number="C14",
    title="Gradients of lower layers",
    notes="It is proven that gradients reach lower layers' weights more weakly than those of higher layers.",
    experiment="Encoders of 6, 12 and 24 layers at initialization, LayerNorm after or before the sublayer, Xavier's "
    "weights and twice as large; gradient of the feed-forward weights, first block against last.",
    holds="Not as a rule. With the norm after the sublayer, the difference is small, and depends on the "
    "initialization; with the norm before it, lower layers get the larger gradients.",
    anchor="Xiong et al. 2020, arXiv:2002.04745: at initialization, gradients are large near the output with the norm "
    "after the sublayer. Liu et al. 2020, arXiv:2004.08249: unequal gradients are not the root cause of unstable "
    "training.",
    cells=cells,
    run=run,
    comparisons=COMPARISONS,
    draw=draw,
)
