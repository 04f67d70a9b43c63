"""C4: BatchNorm depends on the batch size, LayerNorm does not.

An MLP of 4 layers learns digits in batches of 2, 4, 8 and 32 with the same number of samples, each arm at the rate that
was best for it. Measured are the test accuracy; what the mode changes (accuracy with the moments of a training batch,
less that in inference); and how much one sample's logits vary with the rest of its batch, as the slope of that
deviation over the batch size in logarithms: -.5 where it is the error of a mean.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

from model.network.norms import BatchNorm
from studies.claim import Cell, Claim, Comparison, Measures, Results, Setting, tuned_cells
from studies.networks import mlp, norm_of
from studies.pictures import colour, label, lines
from studies.tasks import Split, digits
from studies.training import measured, train

NORMS, SIZES, RATES = ("layer_norm", "batch_norm"), (2, 4, 8, 32), (0.01, 0.03, 0.1, 0.3)
DEPTH, SAMPLES = 4, 6_000  # that each arm sees
DRAWS, DRAWN = 40, (4, 8, 16, 32, 64)  # batches around one sample, and their sizes
ACCURACY = 0.01


def cells(found: Results, seeds: Sequence[int]) -> Iterator[Cell]:
    arms: list[Setting] = [arm(norm, size) for norm in NORMS for size in SIZES]
    return tuned_cells(found, seeds, arms, RATES, "loss")


def run(cell: Cell) -> Measures:
    training, test = digits(seed=cell.seed)
    size = cell.whole("batch")
    network = mlp(norm_of(cell), DEPTH)
    losses = train(network, training, rate=cell.number("rate"), batch=size, steps=SAMPLES // size, seed=cell.seed)
    found = measured(network, losses, test)
    deviations = [deviation(network, test, drawn, cell.seed) for drawn in DRAWN]
    slope = np.polyfit(np.log(DRAWN), np.log(np.maximum(deviations, 1e-12)), 1)[0]
    mode = accuracy_in_batches(network, test, size) - found["accuracy"]
    return found | {"deviations": deviations, "slope": float(slope), "mode": abs(mode)}


@torch.no_grad()
def deviation(network: nn.Module, test: Split, size: int, seed: int) -> float:
    """Standard deviation of one sample's logits over the batches around it, in training mode; their mean."""
    generator, network = torch.Generator().manual_seed(seed), frozen(network)
    logits = []
    for _ in range(DRAWS):
        others = 1 + torch.randperm(len(test.targets) - 1, generator=generator)[: size - 1]
        logits.append(network(torch.cat([test.inputs[:1], test.inputs[others]]))[0])
    return float(torch.stack(logits).std(0).mean())


@torch.no_grad()
def accuracy_in_batches(network: nn.Module, test: Split, size: int) -> float:
    network, right = frozen(network), 0
    for start in range(0, len(test.targets) - size + 1, size):
        part = slice(start, start + size)
        right += int((network(test.inputs[part]).argmax(1) == test.targets[part]).sum())
    return right / (len(test.targets) // size * size)


def frozen(network: nn.Module) -> nn.Module:
    """In training mode, but the running moments stay: `measured` has used them."""
    for module in network.modules():
        if isinstance(module, BatchNorm):
            module.momentum = 0.0
    return network.train()


def arm(norm: str, batch: int) -> Setting:
    return {"norm": norm, "batch": batch}


COMPARISONS = (
    Comparison(
        "BatchNorm's accuracy with batches of 2 is below that with 32",
        "accuracy", arm("batch_norm", 2), arm("batch_norm", 32), "below", ACCURACY,
    ),
    Comparison(
        "LayerNorm's accuracy with batches of 2 is as with 32",
        "accuracy", arm("layer_norm", 2), arm("layer_norm", 32), "alike", ACCURACY,
    ),
    Comparison(
        "With batches of 4, training and inference mode differ more with BatchNorm",
        "mode", arm("layer_norm", 4), arm("batch_norm", 4), "below", ACCURACY,
    ),
)  # fmt: skip


def draw(found: Results, seeds: Sequence[int], figure: Figure) -> None:
    left, right = figure.subplots(1, 2)
    for norm in NORMS:
        curves = np.stack([found.values("accuracy", seeds, **arm(norm, size)) for size in SIZES], axis=1)
        lines(left, SIZES, curves, colour(norm), label(norm))
    left.set(xscale="log", xlabel="samples of a training batch", ylabel="test accuracy")
    left.set_xticks(SIZES, map(str, SIZES), minor=False)
    left.legend(frameon=False)
    spread = found.curves("deviations", seeds, **arm("batch_norm", 32))
    lines(right, DRAWN, spread, colour("batch_norm"), "BatchNorm")
    slope = float(np.median(found.values("slope", seeds, **arm("batch_norm", 32))))
    right.set(
        xscale="log", yscale="log", xlabel="samples of the batch around it", ylabel="deviation of a sample's logits"
    )
    right.set_title(f"slope {slope:.2f}; the error of a mean has -.50; LayerNorm: 0")


CLAIM = Claim(
    number="C4",
    title="Batch size",
    notes="Affected by batch size: BatchNorm yes, LayerNorm no.",
    experiment="An MLP of 4 layers, 6,000 digits in batches of 2, 4, 8 and 32; accuracy, what the mode changes, and "
    "how one sample's logits vary with its batch.",
    holds="True of fully connected layers. A convolution averages over its pixels, too, and hides it.",
    anchor="Wu & He 2018, arXiv:1803.08494: BatchNorm's error rises as batches get small.",
    cells=cells,
    run=run,
    comparisons=COMPARISONS,
    draw=draw,
)  # fmt: skip
