"""C5: BatchNorm allows higher learning rates, and depends less on the initialization.

An MLP of 8 layers learns digits at rates from .01 to 10, with its hidden weights at .3, 1 and 3 times He's standard
deviation. A rate works if the test accuracy reaches .9. Measured are the highest rate that works (`top`, in powers of
ten), over how many powers of ten rates work (`range`: half of one for each that does, as they are half of one apart),
and the best accuracy of all rates.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure

from studies.claim import Cell, Claim, Comparison, Measures, Results, Setting
from studies.networks import mlp, norm_of
from studies.pictures import colour, label, legend, lines
from studies.tasks import digits
from studies.training import measured, train

# rates of 1e-6 to 1e-3 did not help the arm without a norm at 3 times He's, in a pilot, nor 30 and 100 at .3 times
NORMS, GAINS, RATES = ("none", "layer_norm", "batch_norm"), (0.3, 1.0, 3.0), (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
DEPTH, BATCH, STEPS, WORKS = 8, 64, 150, 0.9
NONE = RATES[0] / 10**0.5  # the highest rate that works, where none does: one below all
DECADES, ACCURACY = 0.45, 0.05  # one step of the grid, nearly; far beyond what a seed changes


def arm(norm: str, gain: float = 1.0) -> Setting:
    return {"norm": norm, "gain": gain}


def cells(_found: Results, seeds: Sequence[int]) -> Iterator[Cell]:
    for norm in NORMS:
        for gain in GAINS:
            yield from (Cell.of(seed, **arm(norm, gain)) for seed in seeds)


def run(cell: Cell) -> Measures:
    accuracies = [accuracy(cell, rate) for rate in RATES]
    works = [rate for rate, each in zip(RATES, accuracies, strict=True) if each >= WORKS]
    return {
        "accuracies": accuracies,
        "best": max(accuracies),
        "top": float(np.log10(max(works, default=NONE))),
        "range": len(works) / 2,
    }


def accuracy(cell: Cell, rate: float) -> float:
    """Test accuracy after training at this rate; that of a guess, where it diverged."""
    torch.manual_seed(cell.seed)  # the same initialization at every rate
    training, test = digits(seed=cell.seed)
    network = mlp(norm_of(cell), DEPTH, gain=cell.number("gain"))
    losses = train(network, training, rate=rate, batch=BATCH, steps=STEPS, seed=cell.seed)
    found = measured(network, losses, test)
    return 0.1 if found["diverged"] else found["accuracy"]


COMPARISONS = (
    Comparison(
        "The highest rate that works is higher with BatchNorm than without a norm",
        "top", arm("none"), arm("batch_norm"), "below", DECADES,
    ),
    Comparison(
        "and with LayerNorm, too",
        "top", arm("none"), arm("layer_norm"), "below", DECADES,
    ),
    Comparison(
        "Rates work over a wider range with BatchNorm than without a norm",
        "range", arm("none"), arm("batch_norm"), "below", DECADES,
    ),
    Comparison(
        "With weights of .3 times He's, BatchNorm's best accuracy is above that without a norm",
        "best", arm("none", 0.3), arm("batch_norm", 0.3), "below", ACCURACY,
    ),
    Comparison(
        "With weights of 3 times He's, too",
        "best", arm("none", 3.0), arm("batch_norm", 3.0), "below", ACCURACY,
    ),
    Comparison(
        "BatchNorm's best accuracy is alike with weights of .3 times He's and of 3 times",
        "best", arm("batch_norm", 0.3), arm("batch_norm", 3.0), "alike", ACCURACY,
    ),
)  # fmt: skip


def draw(found: Results, seeds: Sequence[int], figure: Figure) -> None:
    for axes, gain in zip(figure.subplots(1, len(GAINS), sharey=True), GAINS, strict=True):
        for norm in NORMS:
            lines(axes, RATES, found.curves("accuracies", seeds, **arm(norm, gain)), colour(norm), label(norm))
        axes.axhline(WORKS, color="black", linewidth=0.6, linestyle=":")
        axes.set(xscale="log", xlabel="learning rate (SGD)", title=f"weights {gain:g} times He's")
    figure.axes[0].set_ylabel("test accuracy (dotted: .9)")
    legend(figure.axes[0], NORMS)


CLAIM = Claim(
    number="C5",
    title="Learning rates and initialization",
    notes="Faster training (allows higher learning rates); reduces sensitivity to initialization.",
    experiment="An MLP of 8 layers at 7 rates from .01 to 10, with weights of .3, 1 and 3 times He's; the highest rate "
    "that gives an accuracy of .9, and the best accuracy.",
    holds="True of BatchNorm; LayerNorm gains less. The scale of weights before a norm cancels in what it gives, and "
    "divides their gradient instead: another scale is another effective rate.",
    anchor="Bjorck et al. 2018, arXiv:1806.02375: BatchNorm's gain comes mainly from the higher rates that it allows.",
    cells=cells,
    run=run,
    comparisons=COMPARISONS,
    draw=draw,
)
