"""C17: LayerNorm is better for online training.

An MLP of 3 layers sees each of 1,200 digits once, one or two a step, with SGD: without a norm, with LayerNorm and with
BatchNorm, each arm at the rate that was best for it. A BatchNorm that trains on one sample has no variance to divide
by: PyTorch and the product refuse it; here it gives its bias, which is what the formula gives where x is its own mean.
Measured is the test loss.
"""

from collections.abc import Iterator, Sequence

from matplotlib.figure import Figure

from studies.claim import Cell, Claim, Comparison, Measures, Results, Setting, tuned_cells
from studies.networks import mlp, norm_of
from studies.pictures import colour, label, points
from studies.tasks import digits
from studies.training import measured, train

NORMS, SIZES, RATES = ("none", "layer_norm", "batch_norm"), (1, 2), (0.003, 0.01, 0.03, 0.1)
DEPTH, SAMPLES = 3, 1200  # that each arm sees: all digits, once
LOSS = 0.05  # nats: about a point of accuracy


def arm(norm: str, batch: int) -> Setting:
    return {"norm": norm, "batch": batch}


def cells(found: Results, seeds: Sequence[int]) -> Iterator[Cell]:
    return tuned_cells(found, seeds, [arm(norm, size) for norm in NORMS for size in SIZES], RATES, "loss")


def run(cell: Cell) -> Measures:
    training, test = digits(seed=cell.seed)
    network, size = mlp(norm_of(cell), DEPTH), cell.whole("batch")
    losses = train(network, training, rate=cell.number("rate"), batch=size, steps=SAMPLES // size, seed=cell.seed)
    return measured(network, losses, test)


COMPARISONS = (
    Comparison(
        "With one sample a step, LayerNorm's test loss is below BatchNorm's",
        "loss", arm("layer_norm", 1), arm("batch_norm", 1), "below", LOSS,
    ),
    Comparison(
        "and with two",
        "loss", arm("layer_norm", 2), arm("batch_norm", 2), "below", LOSS,
    ),
    Comparison(
        "With one sample a step, LayerNorm's test loss is below that without a norm",
        "loss", arm("layer_norm", 1), arm("none", 1), "below", LOSS,
    ),
    Comparison(
        "and with two",
        "loss", arm("layer_norm", 2), arm("none", 2), "below", LOSS,
    ),
)  # fmt: skip


def draw(found: Results, seeds: Sequence[int], figure: Figure) -> None:
    for axes, size in zip(figure.subplots(1, 2, sharey=True), SIZES, strict=True):
        arms = {label(norm): found.values("loss", seeds, **arm(norm, size)) for norm in NORMS}
        points(axes, arms, [colour(norm) for norm in NORMS])
        axes.set(yscale="log", title="one sample a step" if size == 1 else "two samples a step")
    figure.axes[0].set_ylabel("test loss (nats, logarithmic)")


CLAIM = Claim(
    number="C17",
    title="Online training",
    notes="Doesn't depend on batch size → better for small-batch or online training.",
    experiment="An MLP of 3 layers sees 1,200 digits once, one or two a step, without a norm, with LayerNorm or "
    "BatchNorm, each at its best rate (SGD); test loss.",
    holds="True against BatchNorm: a single sample has no variance over the batch, and of two, each feature is told as "
    "plus or minus one. A network that trains well without a norm does so one sample at a time, too.",
    anchor="Ba et al. 2016, arXiv:1607.06450: LayerNorm works with one sample at a time. Ioffe 2017, arXiv:1702.03275 "
    "(batch renormalization): BatchNorm is less effective if batches are small or their samples not independent.",
    cells=cells,
    run=run,
    comparisons=COMPARISONS,
    draw=draw,
)
