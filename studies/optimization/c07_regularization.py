"""C7: BatchNorm acts like a regularizer.

A CNN of 4 layers learns 100 digits with Adam, other ones for each seed, until it knows them by heart: in batches of 10
and of 100 (all of them), without a norm, with LayerNorm, and with BatchNorm, each arm at the rate that was best for it.
Measured are the test loss and the loss on the 100 digits, both in inference mode. If BatchNorm regularizes by the noise
of its batches, it has to be worse in batches of 100. Two controls: LayerNorm has the noise of the
gradient alone; ghost BatchNorm reads batches of 100, but normalizes ten groups of 10 apart, and has the noise of small
batches without that of the gradient.
"""

# B examples of a batch, S pixels, C channels

from collections.abc import Iterator, Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from model.network.norms import BatchNorm, NormStatistics
from studies.claim import Cell, Claim, Comparison, Measures, Results, Setting, tuned_cells
from studies.networks import Convolution, cnn
from studies.pictures import colour, points
from studies.tasks import digits
from studies.training import evaluate, measured, train

EXAMPLES, GROUP, STEPS, RATES = 100, 10, 200, (0.003, 0.01, 0.03, 0.1)
ARMS = {
    ("none", 10): "no norm\n10",
    ("layer_norm", 10): "LayerNorm\n10",
    ("layer_norm", 100): "LayerNorm\n100",
    ("batch_norm", 10): "BatchNorm\n10",
    ("batch_norm", 100): "BatchNorm\n100",
    ("ghost", 100): "ghost\n100",
}
LOSS, LEARNED = 0.05, 0.05  # nats: about a point of accuracy; a training loss that leaves nothing to learn


def arm(norm: str, batch: int) -> Setting:
    return {"norm": norm, "batch": batch}


def cells(found: Results, seeds: Sequence[int]) -> Iterator[Cell]:
    return tuned_cells(found, seeds, [arm(norm, batch) for norm, batch in ARMS], RATES, "loss")


class Ghost(nn.Module):
    """A BatchNorm that normalizes groups of the batch [B, S, C] apart, in training (arXiv:1705.08741)."""

    def __init__(self, norm: BatchNorm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x_BSC: Tensor, valid_BS1: Tensor) -> tuple[Tensor, NormStatistics | None]:
        if not self.training:
            return self.norm(x_BSC, valid_BS1)
        count = len(x_BSC) // GROUP
        groups = zip(x_BSC.chunk(count), valid_BS1.chunk(count), strict=True)
        return torch.cat([self.norm(group_GSC, valid_GS1)[0] for group_GSC, valid_GS1 in groups]), None


def run(cell: Cell) -> Measures:
    training, test = digits("pictures", cell.seed)
    few = training.random(EXAMPLES, cell.seed)
    network = network_of(cell.text("norm"))
    losses = train(
        network,
        few,
        rate=cell.number("rate"),
        batch=cell.whole("batch"),
        steps=STEPS,
        seed=cell.seed,
        optimizer="adam",
    )
    return measured(network, losses, test) | {"known": evaluate(network, few)[0]}


def network_of(norm: str) -> nn.Module:
    network = cnn("batch_norm" if norm == "ghost" else norm)  # type: ignore[arg-type]
    for layer in network:
        if norm == "ghost" and isinstance(layer, Convolution):
            assert isinstance(layer.norm, BatchNorm)
            layer.norm = Ghost(layer.norm)  # type: ignore[assignment]
    return network


COMPARISONS = (
    Comparison(
        "In batches of 10, BatchNorm's test loss is below that without a norm",
        "loss", arm("batch_norm", 10), arm("none", 10), "below", LOSS,
    ),
    Comparison(
        "and below LayerNorm's, which has no noise of its batch",
        "loss", arm("batch_norm", 10), arm("layer_norm", 10), "below", LOSS,
    ),
    Comparison(
        "It is the noise of the batch: BatchNorm's test loss in batches of 10 is below that in batches of 100",
        "loss", arm("batch_norm", 10), arm("batch_norm", 100), "below", LOSS,
    ),
    Comparison(
        "It is not the gradient's: LayerNorm's test loss in batches of 10 is as in batches of 100",
        "loss", arm("layer_norm", 10), arm("layer_norm", 100), "alike", LOSS,
    ),
    Comparison(
        "In batches of 100, the test loss of groups of 10 normalized apart is below that of BatchNorm",
        "loss", arm("ghost", 100), arm("batch_norm", 100), "below", LOSS,
    ),
    Comparison(
        "All know the digits by heart: BatchNorm's training loss in batches of 10 is as without a norm",
        "known", arm("none", 10), arm("batch_norm", 10), "alike", LEARNED,
    ),
)  # fmt: skip


def draw(found: Results, seeds: Sequence[int], figure: Figure) -> None:
    titles = {"loss": "test loss (nats)", "known": "loss on the 100 digits (nats)"}
    for axes, (measure, title) in zip(figure.subplots(1, 2), titles.items(), strict=True):
        arms = {name: found.values(measure, seeds, **arm(*key)) for key, name in ARMS.items()}
        points(axes, arms, [colour("batch_norm" if norm == "ghost" else norm) for norm, _ in ARMS])
        axes.set(title=title, xlabel="norm, and examples of a batch")
        axes.tick_params(axis="x", labelsize=7)
        if measure == "known":
            axes.set_yscale("log")


CLAIM = Claim(
    number="C7",
    title="Regularization",
    notes="Acts like a regularizer (sometimes reducing need for dropout).",
    experiment="A CNN of 4 layers learns 100 digits by heart (Adam), batches of 10 or 100; BatchNorm, ghost BatchNorm "
    "(groups of 10), LayerNorm or no norm, each at its best rate; test loss.",
    holds="BatchNorm generalizes better from few examples, and its batches' noise has a part in it, which shrinks as "
    "batches grow: small batches regularize, large ones hardly.",
    anchor="Luo et al. 2018, arXiv:1809.00846: BatchNorm as population normalization and a decay of its scale, weaker "
    "in larger batches. Hoffer et al. 2017, arXiv:1705.08741: ghost BatchNorm makes large batches generalize better.",
    cells=cells,
    run=run,
    comparisons=COMPARISONS,
    draw=draw,
)
