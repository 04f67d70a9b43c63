"""C6: norms allow higher rates in Transformer encoders, too.

An encoder of 3 layers learns digits, row of pixels by row: without a norm, with LayerNorm before or after each
sublayer, and with BatchNorm before it; with Adam at five rates, and with SGD at six. Measured are the test loss at each
rate, the lowest one (`best`), that at the highest rate (`at_top`), and the highest rate that works (`top`, in powers of
ten), which is one whose loss is below 1.5 nats; a guess's is 2.3.
"""

from collections.abc import Iterator, Sequence
from typing import Literal, cast

import numpy as np
import torch
from matplotlib.figure import Figure

from model.network.config import Placement
from studies.claim import Cell, Claim, Comparison, Measures, Results, Setting
from studies.networks import encoder, norm_of
from studies.pictures import colour, lines
from studies.tasks import digits
from studies.training import WORST, Optimizer, measured, train

ARMS = {
    ("none", "pre"): "no norm",
    ("layer_norm", "pre"): "LayerNorm before",
    ("layer_norm", "post"): "LayerNorm after",
    ("batch_norm", "pre"): "BatchNorm before",
}
RATES: dict[str, tuple[float, ...]] = {"adam": (3e-4, 1e-3, 3e-3, 1e-2, 3e-2), "sgd": (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)}
LAYERS, WIDTH, BATCH, STEPS, WORKS = 3, 32, 32, 100, 1.5
LOSS, DECADES = 0.1, 0.45  # nats: two points of accuracy; one step of the grid, nearly


def arm(norm: str, placement: Literal["pre", "post"], optimizer: Optimizer) -> Setting:
    return {"norm": norm, "placement": placement, "optimizer": optimizer}


def cells(_found: Results, seeds: Sequence[int]) -> Iterator[Cell]:
    for norm, placement in ARMS:
        for optimizer in RATES:
            yield from (Cell.of(seed, norm=norm, placement=placement, optimizer=optimizer) for seed in seeds)


def run(cell: Cell) -> Measures:
    rates = RATES[cell.text("optimizer")]
    losses = [loss(cell, rate) for rate in rates]
    works = [rate for rate, each in zip(rates, losses, strict=True) if each < WORKS]
    lower = rates[0] / 10**0.5  # where none works: one below all
    return {
        "losses": losses,
        "best": min(losses),
        "at_top": losses[-1],
        "top": float(np.log10(max(works, default=lower))),
    }


def loss(cell: Cell, rate: float) -> float:
    """Test loss after training at this rate."""
    torch.manual_seed(cell.seed)  # the same initialization at every rate
    training, test = digits("sequences", cell.seed)
    network = encoder(norm_of(cell), cast(Placement, cell["placement"]), LAYERS, d_model=WIDTH)
    optimizer = cast(Optimizer, cell["optimizer"])
    losses = train(network, training, rate=rate, batch=BATCH, steps=STEPS, seed=cell.seed, optimizer=optimizer)
    return measured(network, losses, test)["loss"]


COMPARISONS = (
    Comparison(
        "With SGD, the highest rate that works is higher with LayerNorm before the sublayer than without a norm",
        "top", arm("none", "pre", "sgd"), arm("layer_norm", "pre", "sgd"), "below", DECADES,
    ),
    Comparison(
        "with LayerNorm after it, too",
        "top", arm("none", "pre", "sgd"), arm("layer_norm", "post", "sgd"), "below", DECADES,
    ),
    Comparison(
        "and with BatchNorm before it",
        "top", arm("none", "pre", "sgd"), arm("batch_norm", "pre", "sgd"), "below", DECADES,
    ),
    Comparison(
        "With Adam, the loss at the highest rate is lower with LayerNorm before the sublayer than without a norm",
        "at_top", arm("layer_norm", "pre", "adam"), arm("none", "pre", "adam"), "below", LOSS,
    ),
    Comparison(
        "with LayerNorm after it, too",
        "at_top", arm("layer_norm", "post", "adam"), arm("none", "pre", "adam"), "below", LOSS,
    ),
    Comparison(
        "and with BatchNorm before it",
        "at_top", arm("batch_norm", "pre", "adam"), arm("none", "pre", "adam"), "below", LOSS,
    ),
    Comparison(
        "With Adam, each at its best rate, LayerNorm before the sublayer ends at a lower loss than no norm",
        "best", arm("layer_norm", "pre", "adam"), arm("none", "pre", "adam"), "below", LOSS,
    ),
)  # fmt: skip


def draw(found: Results, seeds: Sequence[int], figure: Figure) -> None:
    for axes, (optimizer, rates) in zip(figure.subplots(1, 2, sharey=True), RATES.items(), strict=True):
        for (norm, placement), name in ARMS.items():
            curves = found.curves("losses", seeds, norm=norm, placement=placement, optimizer=optimizer)
            lines(axes, rates, curves, colour(norm), name, "--" if placement == "post" else "-")
        axes.set(xscale="log", yscale="log", xlabel="learning rate")
        axes.set_title("Adam" if optimizer == "adam" else "SGD")
    figure.axes[0].set_ylabel(f"test loss (nats, logarithmic;\n{WORST:.1f} stands for all above)")
    figure.axes[0].legend(frameon=False, fontsize=8)


CLAIM = Claim(
    number="C6",
    title="Learning rates of encoders",
    notes="Faster training (allows higher learning rates). People ask whether it is so in Transformers, too.",
    experiment="An encoder of 3 layers without a norm, with LayerNorm before or after each sublayer, or BatchNorm "
    "before it; Adam at 5 rates and SGD at 6, without warm-up; test loss.",
    holds="True with SGD. Adam divides gradients by their size and hides most of it: without a norm, small encoders "
    "train at the same rates. LayerNorm after the sublayer wants warm-up (C11).",
    anchor="Xiong et al. 2020, arXiv:2002.04745: with the norm before the sublayer, Transformers train without "
    "warm-up.",
    cells=cells,
    run=run,
    comparisons=COMPARISONS,
    draw=draw,
)
