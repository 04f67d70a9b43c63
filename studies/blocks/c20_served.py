"""C20: what the statistics of a served encoder tell, with the norm after or before each sublayer.

An encoder of 4 layers learns the digits 0 to 7 with Adam, each placement at the rate that was best for it. Then it is
asked as if it were served: by test digits with noise on every pixel, and by the classes 8 and 9, which it never saw.
Measured is, at each norm, how far the token mean and the token variance move (the rows' averages against those of known
digits, in deviations of rows; the larger of the two): at the first norm, at the last one, and at the best. `growth` is
the variance at the last norm over that at the first, in powers of ten.
"""

# R rows, S steps, L norms

from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from model.network.config import Placement
from studies.claim import Cell, Claim, Comparison, Measures, Results, Setting, tuned_cells
from studies.networks import Sequences, encoder
from studies.pictures import colour, lines
from studies.tasks import Split, digits
from studies.training import measured, train

PLACEMENTS = {"post": "norm after", "pre": "norm before"}
RATES, LAYERS, WIDTH, BATCH, STEPS = (1e-3, 3e-3, 1e-2), 4, 32, 32, 150
KNOWN, NOISE = 8, 0.5  # classes that are learnt; standard deviation, in that of the pixels
CLEAR, TENFOLD = 0.2, 1.0  # deviations of a row, which 100 rows show; powers of ten


def arm(placement: str) -> Setting:
    return {"placement": placement}


def cells(found: Results, seeds: Sequence[int]) -> Iterator[Cell]:
    return tuned_cells(found, seeds, [arm(placement) for placement in PLACEMENTS], RATES, "loss")


def run(cell: Cell) -> Measures:
    training, test = digits("sequences", cell.seed)
    known, unknown = of(test, True), of(test, False)
    network = encoder("layer_norm", cast(Placement, cell["placement"]), LAYERS, d_model=WIDTH)
    rate = cell.number("rate")
    losses = train(network, of(training, True), rate=rate, batch=BATCH, steps=STEPS, seed=cell.seed, optimizer="adam")
    found: dict[str, float | list[float]] = {**measured(network, losses, known)}
    noise = torch.randn(known.inputs.shape, generator=torch.Generator().manual_seed(cell.seed))
    usual = statistics(network, known.inputs)
    for name, inputs in (("noise", known.inputs + NOISE * noise), ("classes", unknown.inputs)):
        moved = moves(usual, statistics(network, inputs))
        found |= {f"{name}_first": moved[0], f"{name}_last": moved[-1], f"{name}_best": max(moved), name: moved}
    variances = usual[:, 1].mean(0)
    return found | {"growth": float(np.log10(variances[-1] / variances[0]))}


def of(split: Split, known: bool) -> Split:
    """The digits whose classes are learnt, or the others."""
    chosen = (split.targets < KNOWN) == known
    return Split(split.inputs[chosen], split.targets[chosen])


@torch.no_grad()
def statistics(network: Sequences, inputs: Tensor) -> NDArray[np.float64]:
    """Each row's average of its tokens' means and of their variances, at every norm [R, 2, L]; as in /norm-stats."""
    rows, steps = inputs.shape[:2]
    positions_RS, ones_RS = torch.arange(steps).expand(rows, steps), torch.ones(rows, steps, dtype=torch.int64)
    pooling = torch.eye(rows).repeat_interleave(steps, 1) / steps
    seen = network.eval().encoder(inputs, positions_RS, ones_RS, pooling).statistics
    means_RL = torch.stack([each.mean.mean((1, 2)) for each in seen], 1)
    variances_RL = torch.stack([each.inv_std.double().pow(-2).mean((1, 2)) for each in seen], 1)
    return np.stack([means_RL.double().numpy(), variances_RL.numpy()], axis=1)


def moves(usual_R2L: NDArray[np.float64], now_R2L: NDArray[np.float64]) -> list[float]:
    """How far the rows' average moved at each norm [L], in deviations of usual rows; mean or variance, the farther."""
    distance_2L = np.abs(now_R2L.mean(0) - usual_R2L.mean(0)) / usual_R2L.std(0)
    return [float(each) for each in distance_2L.max(0)]


def deeper(text: str, placement: str, traffic: str) -> Comparison:
    first, last = f"{traffic}_first", f"{traffic}_last"
    return Comparison(text, first, arm(placement), arm(placement), "below", CLEAR, last)


COMPARISONS = (
    Comparison(
        "With the norm before the sublayer, the variance grows with depth, tenfold more than with the norm after it",
        "growth", arm("post"), arm("pre"), "below", TENFOLD,
    ),
    Comparison(
        "Noise shows as far with either placement, at the norm that tells most",
        "noise_best", arm("post"), arm("pre"), "alike", CLEAR,
    ),
    Comparison(
        "and so do classes that were never seen",
        "classes_best", arm("post"), arm("pre"), "alike", CLEAR,
    ),
    deeper("With the norm after, unseen classes show farther at the last norm than at the first", "post", "classes"),
    deeper("with the norm before, too", "pre", "classes"),
    deeper("With the norm after, noise shows farther at the last norm than at the first", "post", "noise"),
    deeper("with the norm before, too", "pre", "noise"),
)  # fmt: skip


def draw(found: Results, seeds: Sequence[int], figure: Figure) -> None:
    titles = {"noise": "noise on every pixel", "classes": "classes that were never seen"}
    for axes, (name, title) in zip(figure.subplots(1, 2), titles.items(), strict=True):
        for placement, text in PLACEMENTS.items():
            curves = found.curves(name, seeds, **arm(placement))
            at = range(1, curves.shape[1] + 1)
            lines(axes, at, curves, colour("layer_norm"), text, "--" if placement == "post" else "-")
        axes.set(title=title, xlabel="norm, in network order")
    figure.axes[0].set_ylabel("how far its statistics move\n(deviations of usual rows)")
    figure.axes[0].legend(frameon=False)


CLAIM = Claim(
    number="C20",
    title="What statistics tell, by placement",
    notes="People ask: which placement is easier to observe, and which layer's statistics tell what?",
    experiment="An encoder of 4 layers learns the digits 0 to 7, with the norm after or before each sublayer; how far "
    "the means and variances at each norm move with noise on the pixels, and with the digits 8 and 9.",
    holds="With the norm after, each norm reads a sum whose scale the norm before it has set; with the norm before, it "
    "reads the residual stream, whose variance adds up. So compare a layer with itself, never with another: that is "
    "what a baseline is for.",
    anchor="Xiong et al. 2020, arXiv:2002.04745: at initialization, with the norm before the sublayer, the scale of "
    "what the norms read grows with depth.",
    cells=cells,
    run=run,
    comparisons=COMPARISONS,
    draw=draw,
)
