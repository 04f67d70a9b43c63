"""C15: LayerNorm keeps the distribution of values smooth, and prevents extreme ones.

Encoders of 6 layers with LayerNorm after or before each sublayer, and without a norm, learn digits with Adam, each at
the rate that was best for it. Measured on 256 test digits, after each block (the residual stream) and before and after
each norm: the largest absolute value, in powers of ten; that over the median one (`extreme`, likewise); and the excess
kurtosis of each feature over all tokens, as a mean over the features (0 is a normal distribution's). What is compared
is the highest of all blocks; `smoothed` is the kurtosis after the norms less that before.
"""

# N tokens, D width

from collections.abc import Iterator, Sequence
from typing import Literal, cast

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from model.network.config import Placement
from studies.claim import Cell, Claim, Comparison, Measures, Results, Setting, tuned_cells
from studies.networks import Sequences, encoder, norm_of
from studies.pictures import colour, lines
from studies.tasks import digits
from studies.training import measured, train

NONE, PRE, POST = ("none", "pre"), ("layer_norm", "pre"), ("layer_norm", "post")
ARMS = {NONE: "no norm", PRE: "LayerNorm before", POST: "LayerNorm after"}
RATES, LAYERS, WIDTH, BATCH, STEPS, EVERY, EXAMPLES = (3e-4, 1e-3, 3e-3), 6, 64, 32, 100, 20, 256
TWOFOLD, KURTOSIS = 0.3, 1.0  # powers of ten; a third of the excess of a Laplace distribution, which has heavy tails
Place = Literal["stream", "before", "after"]


def arm(norm: str, placement: str) -> Setting:
    return {"norm": norm, "placement": placement}


def cells(found: Results, seeds: Sequence[int]) -> Iterator[Cell]:
    return tuned_cells(found, seeds, [arm(*key) for key in ARMS], RATES, "loss")


def run(cell: Cell) -> Measures:
    training, test = digits("sequences", cell.seed)
    network = encoder(norm_of(cell), cast(Placement, cell["placement"]), LAYERS, d_model=WIDTH)
    lasts = list[Tensor]()

    def watch(step: int, _network: nn.Module) -> None:
        if step % EVERY == 0:
            lasts.append(values(network, test.inputs[:EXAMPLES])["stream"][-1])

    rate = cell.number("rate")
    losses = train(
        network, training, rate=rate, batch=BATCH, steps=STEPS, seed=cell.seed, optimizer="adam", each_step=watch
    )
    while len(lasts) <= STEPS // EVERY:
        watch(0, network)  # the trained one; again, where training ended early
    found = values(network, test.inputs[:EXAMPLES])
    curves = {
        f"{name}_by_{along}": [measure(each) for each in places]
        for name, measure in (("extreme", extreme), ("kurtosis", kurtosis))
        for along, places in (("block", found["stream"]), ("step", lasts))
    }
    highest = {name: float(np.max(curves[f"{name}_by_block"])) for name in ("extreme", "kurtosis")}
    return measured(network, losses, test) | {
        "largest": float(torch.stack([each.abs().max() for each in found["stream"]]).max().log10()),
        "smoothed": kurtosis(torch.cat(found["after"], 1)) - kurtosis(torch.cat(found["before"], 1)),
        **highest,
        **curves,
    }


@torch.no_grad()
def values(network: Sequences, inputs: Tensor) -> dict[Place, list[Tensor]]:
    """Values [N, D] after each block, and before and after each norm, in network order."""
    found: dict[Place, list[Tensor]] = {"stream": [], "before": [], "after": []}

    def block(_module: nn.Module, _given: object, result: tuple[Tensor, object]) -> None:
        found["stream"].append(result[0].flatten(0, 1))

    def norm(_module: nn.Module, given: tuple[Tensor, ...], result: tuple[Tensor, object]) -> None:
        found["before"].append(given[0].flatten(0, 1))
        found["after"].append(result[0].flatten(0, 1))

    hooks = [each.register_forward_hook(block) for each in network.encoder.blocks]
    hooks += [each.register_forward_hook(norm) for _, each in network.encoder.norms()]
    network(inputs)
    for hook in hooks:
        hook.remove()
    return found


def extreme(x_ND: Tensor) -> float:
    """Largest absolute value over the median one, in powers of ten."""
    return float((x_ND.abs().max() / x_ND.abs().median()).log10())


def kurtosis(x_ND: Tensor) -> float:
    """Excess kurtosis of each feature over its tokens; their mean."""
    centred_ND = x_ND.double() - x_ND.double().mean(0)
    return float((centred_ND.pow(4).mean(0) / centred_ND.square().mean(0).square() - 3).mean())


EXPECTED = (
    ("the largest value is half that without a norm", "largest", TWOFOLD),
    ("the largest value over the median is half that without a norm", "extreme", TWOFOLD),
    ("features have a lower kurtosis than without a norm", "kurtosis", KURTOSIS),
    ("what leaves a norm has a lower kurtosis than what entered it", "smoothed", KURTOSIS),
)
COMPARISONS = [
    Comparison(f"With LayerNorm {where} the sublayer, {text}", measure, arm(*key), arm(*NONE), "below", margin)
    for text, measure, margin in EXPECTED
    for where, key in (("after", POST), ("before", PRE))
]


def draw(found: Results, seeds: Sequence[int], figure: Figure) -> None:
    for row, name in zip(figure.subplots(1, 4).reshape(2, 2), ("extreme", "kurtosis"), strict=True):
        for axes, along in zip(row, ("block", "step"), strict=True):
            for key, text in ARMS.items():
                curves = found.curves(f"{name}_by_{along}", seeds, **arm(*key))
                at = range(1, curves.shape[1] + 1) if along == "block" else range(0, STEPS + 1, EVERY)
                lines(axes, at, curves, colour(key[0]), text, "--" if key[1] == "post" else "-")
            axes.set_title("largest over median\n(powers of ten)" if name == "extreme" else "excess kurtosis\n")
            axes.set_xlabel("after block, trained" if along == "block" else "after step, last block")
    figure.axes[0].legend(frameon=False, fontsize=7)


CLAIM = Claim(
    number="C15",
    title="Extreme values",
    notes="LayerNorm keeps the distribution of data smooth, preventing extreme values, and stabilizes the values "
    "flowing through the network.",
    experiment="Encoders of 6 layers (Adam, 100 steps) with LayerNorm after or before the sublayer and without a norm; "
    "largest value, largest over median and excess kurtosis of the residual stream, and before and after each norm.",
    holds="It keeps the scale: a token's values stay within sqrt(D) deviations. But it shifts and scales a token as a "
    "whole, and leaves the shape of its distribution as it was; in large models, extreme values appear all the same.",
    anchor="Sun et al. 2024, arXiv:2402.17762: in large language models, a few activations are far larger than "
    "others, 100,000 times for example.",
    cells=cells,
    run=run,
    comparisons=COMPARISONS,
    draw=draw,
)
