"""C2: norms help by reducing internal covariate shift.

An MLP of 8 layers learns digits: without a norm, with LayerNorm, with BatchNorm, and with BatchNorm whose outputs are
scaled and shifted by noise that is new for each unit and step, which brings the shift back. Measured at the sixth
layer, every 10 steps: `shift`, how far one update moves the mean and the deviation of each of its inputs over the
batch, in units of their deviation; `cosine`, between its gradients before and after the earlier layers took that
update, with the same noise; and the test loss, without noise.
"""

# B examples of a batch, D width

from collections.abc import Iterator, Sequence
from copy import deepcopy

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F

from studies.claim import Cell, Claim, Comparison, Measures, Results, Setting, tuned_cells
from studies.networks import Layer, mlp
from studies.pictures import colour, points
from studies.tasks import Split, digits
from studies.training import EachStep, batches, measured, train

ARMS = {"none": "no\nnorm", "layer_norm": "Layer-\nNorm", "batch_norm": "Batch-\nNorm", "noisy": "Batch-\nNorm,\nnoise"}
RATES = (0.01, 0.03, 0.1, 0.3, 1.0)
DEPTH, WATCHED, BATCH, STEPS, EVERY = 8, 5, 64, 200, 10
NOISE = 0.3  # standard deviation of the noise's factor, around 1, and of its shift, in units of BatchNorm's output
SHIFT, COSINE, LOSS = 0.05, 0.1, 0.05  # deviations of a unit; of 1; nats: about a point of accuracy


def arm(norm: str) -> Setting:
    return {"norm": norm}


def cells(found: Results, seeds: Sequence[int]) -> Iterator[Cell]:
    return tuned_cells(found, seeds, [arm(norm) for norm in ARMS], RATES, "loss")


class Noisy(nn.Module):
    """A norm whose outputs [B, D] are scaled and shifted, in training; the same way until `redraw`."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm, self.factor_D, self.shift_D = norm, torch.ones(1), torch.zeros(1)

    def forward(self, x_BD: Tensor) -> Tensor:
        y_BD = self.norm(x_BD)
        return y_BD * self.factor_D + self.shift_D if self.training else y_BD


def redraw(network: nn.Module, seed: int, step: int) -> None:
    generator = torch.Generator().manual_seed(seed * 10_000 + step)
    for module in network.modules():
        if isinstance(module, Noisy):
            noise_2D = NOISE * torch.randn(2, 64, generator=generator)
            module.factor_D, module.shift_D = 1 + noise_2D[0], noise_2D[1]


def run(cell: Cell) -> Measures:
    training, test = digits(seed=cell.seed)
    norm, rate = cell.text("norm"), cell.number("rate")
    network = mlp("batch_norm" if norm == "noisy" else norm, DEPTH)  # type: ignore[arg-type]
    for layer in network:
        if norm == "noisy" and isinstance(layer, Layer):
            layer.norm = Noisy(layer.norm)  # type: ignore[assignment]
    shifts, cosines = list[float](), list[float]()
    watch = watcher(training, rate, cell.seed, shifts, cosines)
    redraw(network, cell.seed, 0)
    losses = train(network, training, rate=rate, batch=BATCH, steps=STEPS, seed=cell.seed, each_step=watch)
    return measured(network, losses, test) | {"shift": float(np.mean(shifts)), "cosine": float(np.mean(cosines))}


def watcher(training: Split, rate: float, seed: int, shifts: list[float], cosines: list[float]) -> EachStep:
    """Measures before every EVERY-th update what it will change for the watched layer, on the same batch."""
    stream = batches(training, BATCH, STEPS, seed)  # what `train` sees

    def watch(step: int, network: nn.Module) -> None:
        batch = next(stream)
        if step % EVERY:
            redraw(network, seed, step + 1)
            return
        assert isinstance(network, nn.Sequential)
        before, after = deepcopy(network), deepcopy(network)  # so that no running moments move
        with torch.no_grad():
            for updated, used in zip(after[:WATCHED].parameters(), network[:WATCHED].parameters(), strict=True):
                assert used.grad is not None
                updated.sub_(rate * used.grad)
        cosines.append(cosine(layer_gradient(before, batch), layer_gradient(after, batch)))
        redraw(network, seed, step + 1)
        redraw(after, seed, step + 1)
        with torch.no_grad():
            shifts.append(shift(before[:WATCHED](batch.inputs), after[:WATCHED](batch.inputs)))

    return watch


def layer_gradient(network: nn.Sequential, batch: Split) -> Tensor:
    """The loss's gradient with respect to the watched layer's weights."""
    layer = network[WATCHED]
    assert isinstance(layer, Layer)
    loss = F.cross_entropy(network(batch.inputs), batch.targets)
    return torch.autograd.grad(loss, layer.linear.weight)[0]


def cosine(a: Tensor, b: Tensor) -> float:
    return float(F.cosine_similarity(a.flatten(), b.flatten(), dim=0))


def shift(before_BD: Tensor, after_BD: Tensor) -> float:
    """How far the units' means and deviations over the batch moved, in deviations; both as root mean squares."""
    moved = (after_BD.mean(0) - before_BD.mean(0)).square() + (after_BD.std(0) - before_BD.std(0)).square()
    return float((moved.mean() / before_BD.var(0).mean()).sqrt())


COMPARISONS = (
    Comparison(
        "BatchNorm reduces the shift: an update moves a layer's inputs less than without a norm",
        "shift", arm("batch_norm"), arm("none"), "below", SHIFT,
    ),
    Comparison(
        "and LayerNorm, too",
        "shift", arm("layer_norm"), arm("none"), "below", SHIFT,
    ),
    Comparison(
        "BatchNorm keeps gradients valid while earlier layers change: a higher cosine than without a norm",
        "cosine", arm("none"), arm("batch_norm"), "below", COSINE,
    ),
    Comparison(
        "Where noise brings the shift back, BatchNorm loses its gain: its loss is higher than without noise",
        "loss", arm("batch_norm"), arm("noisy"), "below", LOSS,
    ),
)  # fmt: skip


def draw(found: Results, seeds: Sequence[int], figure: Figure) -> None:
    titles = {
        "shift": "shift of the sixth layer's inputs\nby one update (deviations)",
        "cosine": "cosine of its gradients, before and\nafter earlier layers are updated",
        "loss": "test loss (nats)\n",
    }
    for axes, (measure, title) in zip(figure.subplots(1, 3), titles.items(), strict=True):
        arms = {name: found.values(measure, seeds, norm=norm) for norm, name in ARMS.items()}
        points(axes, arms, [colour("batch_norm" if norm == "noisy" else norm) for norm in ARMS])
        axes.set_title(title)
        axes.tick_params(axis="x", labelsize=7)
        if measure != "cosine":
            axes.set_yscale("log")


CLAIM = Claim(
    number="C2",
    title="Internal covariate shift",
    notes="To stabilize and accelerate training by reducing internal covariate shift.",
    experiment="An MLP of 8 layers without a norm, with LayerNorm, BatchNorm, and BatchNorm with noise on each unit's "
    "scale and mean; how far one update moves the sixth layer's inputs and gradients, and the test loss.",
    holds="Contested. BatchNorm lowers the shift, but trains well, too, where noise brings it back. LayerNorm "
    "hardly lowers it, and trains. Less shift may come along with better training; it does not explain it.",
    anchor="Santurkar et al. 2018, arXiv:1805.11604: BatchNorm followed by noise, which adds shift, trains about as "
    "well as BatchNorm without that noise.",
    cells=cells,
    run=run,
    comparisons=COMPARISONS,
    draw=draw,
)
