"""C11: Add & Norm is LayerNorm(x + Sublayer(x)), around self-attention and then around the feed-forward.

First exactly, in float64: the product's block and PyTorch's layer, given the same weights; measured is the largest
difference of their outputs. Then in training: an encoder of 8 layers with the norm after or before each sublayer, with
and without warm-up, and one without a norm, each at the rate that was best for it, and once at one high rate; measured
is the test loss.
"""

from collections.abc import Iterator, Sequence
from typing import Literal, cast

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

from model.network.config import Placement
from studies.claim import Cell, Claim, Comparison, Measures, Results, Setting, tuned_cells
from studies.networks import encoder, norm_of
from studies.pictures import colour, points
from studies.tasks import digits
from studies.training import measured, train

BLOCKS = {"torch": "PyTorch's\nfused\nlayer", "post": "norm\nafter", "pre": "norm\nbefore"}
RATES, HIGH = (1e-3, 3e-3, 1e-2), 3e-3
LAYERS, WIDTH, BATCH, STEPS, WARMUP = 8, 32, 32, 100, 30
EXACT, LOSS = 1e-10, 0.05  # outputs are of size 1, in float64; nats: about a point of accuracy
POST, PRE, NONE = ("layer_norm", "post"), ("layer_norm", "pre"), ("none", "pre")
TRAINED = {
    (*POST, 0): "norm\nafter", (*POST, WARMUP): "norm\nafter,\nwarm-up",
    (*PRE, 0): "norm\nbefore", (*PRE, WARMUP): "norm\nbefore,\nwarm-up", (*NONE, 0): "no\nnorm",
}  # fmt: skip
WEIGHTS = {  # what PyTorch calls them, and the product
    "self_attn.in_proj_": "attention.sublayer.query_key_value.", "self_attn.out_proj.": "attention.sublayer.output.",
    "linear1.": "feed_forward.sublayer.expand.", "linear2.": "feed_forward.sublayer.contract.",
    "norm1.": "attention.norm.", "norm2.": "feed_forward.norm.",
}  # fmt: skip


def exact(block: str) -> Setting:
    return {"part": "exact", "block": block}


def arm(norm: str, placement: str, warmup: int = 0, at: str = "best") -> Setting:
    return {"part": "training", "norm": norm, "placement": placement, "warmup": warmup, "at": at}


def cells(found: Results, seeds: Sequence[int]) -> Iterator[Cell]:
    for block in BLOCKS:
        yield from (Cell.of(seed, **exact(block)) for seed in seeds)
    yield from tuned_cells(found, seeds, [arm(*each) for each in TRAINED], RATES, "loss")
    for each in TRAINED:
        yield from (Cell.of(seed, **arm(*each, "high"), rate=HIGH) for seed in seeds)


def run(cell: Cell) -> Measures:
    if cell["part"] == "exact":
        return {"difference": difference(cell.text("block"))}
    training, test = digits("sequences", cell.seed)
    network = encoder(norm_of(cell), cast(Placement, cell["placement"]), LAYERS, d_model=WIDTH)
    rate, warmup = cell.number("rate"), cell.whole("warmup")
    found = train(
        network, training, rate=rate, batch=BATCH, steps=STEPS, seed=cell.seed, optimizer="adam", warmup=warmup
    )
    return measured(network, found, test)


def difference(block: str) -> float:
    """Largest difference from PyTorch's layer in training mode; `torch` is the fused kernel of its inference mode."""
    layer = nn.TransformerEncoderLayer(WIDTH, 4, 2 * WIDTH, 0.0, "gelu", batch_first=True, norm_first=False).double()
    ours = encoder("layer_norm", "pre" if block == "pre" else "post", 1, d_model=WIDTH).encoder.blocks[0].double()
    with torch.no_grad():
        for theirs in layer.parameters():
            theirs.add_(0.1 * torch.randn_like(theirs))  # biases of 0 and scales of 1 would hide a mistake
        for theirs_name, our_name in WEIGHTS.items():
            for kind in ("weight", "bias"):
                ours.get_parameter(our_name + kind).copy_(layer.get_parameter(theirs_name + kind))
        x_BSD = torch.randn(8, 5, WIDTH, dtype=torch.float64)
        reference_BSD = layer.train()(x_BSD)
        if block == "torch":
            found_BSD = layer.eval()(x_BSD)
        else:
            found_BSD, _ = ours(x_BSD, torch.ones(8, 5, 1).double(), torch.ones(8, 1, 5, 5, dtype=torch.bool))
    return float((found_BSD - reference_BSD).abs().max())


def losses(text: str, a: Setting, b: Setting, expected: Literal["below", "alike"]) -> Comparison:
    return Comparison(text, "loss", a, b, expected, LOSS)


COMPARISONS = (
    Comparison("The block with LayerNorm(x + Sublayer(x)) computes what PyTorch's layer does", "difference",
               exact("torch"), exact("post"), "alike", EXACT),
    losses("Add & Norm improves learning: without warm-up, it ends at a lower loss than no norm",
           arm(*POST), arm(*NONE), "below"),
    losses("and at the high rate", arm(*POST, at="high"), arm(*NONE, at="high"), "below"),
    losses("Without warm-up, Norm(x + Sublayer(x)) trains as well as x + Sublayer(Norm(x))",
           arm(*POST), arm(*PRE), "alike"),
    losses("and at the high rate", arm(*POST, at="high"), arm(*PRE, at="high"), "alike"),
    losses("It needs no warm-up: it trains as well without", arm(*POST, WARMUP), arm(*POST), "alike"),
    losses("and at the high rate", arm(*POST, WARMUP, "high"), arm(*POST, at="high"), "alike"),
)  # fmt: skip


def draw(found: Results, seeds: Sequence[int], figure: Figure) -> None:
    left, *others = figure.subplots(1, 3, width_ratios=(3, 5, 5))
    blocks = {name: np.maximum(found.values("difference", seeds, **exact(key)), 1e-17) for key, name in BLOCKS.items()}
    points(left, blocks, [colour("layer_norm")] * len(blocks))
    left.set(yscale="log", title="difference from\nPyTorch's layer")
    for axes, at in zip(others, ("best", "high"), strict=True):
        arms = {name: found.values("loss", seeds, **arm(*each, at)) for each, name in TRAINED.items()}
        points(axes, arms, [colour(norm) for norm, *_ in TRAINED])
        axes.set(ylim=(0, None), title=f"test loss (nats),\n{'best rates' if at == 'best' else f'rate {HIGH}'}")
    for axes in (left, *others):
        axes.tick_params(axis="x", labelsize=6.5)


CLAIM = Claim(
    number="C11",
    title="Add & Norm",
    notes="Output = LayerNorm(x + Sublayer(x)), around self-attention and then the feed-forward: to stabilize "
    "training and improve learning.",
    experiment="The product's block against PyTorch's layer in float64; an encoder of 8 layers (Adam, 100 steps) with "
    "the norm after or before each sublayer, with and without warm-up; test loss.",
    holds="The formula is that of 2017, and this block computes it. It wants warm-up, or a low rate, where it is deep; "
    "with the norm before the sublayer, as in most of today's models, often RMSNorm, it does not.",
    anchor="Vaswani et al. 2017, arXiv:1706.03762: LayerNorm(x + Sublayer(x)), 4,000 steps of warm-up. Xiong et al. "
    "2020, arXiv:2002.04745: with the norm before the sublayer, Transformers train without warm-up.",
    cells=cells,
    run=run,
    comparisons=COMPARISONS,
    draw=draw,
)
