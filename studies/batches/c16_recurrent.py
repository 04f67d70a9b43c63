"""C16: LayerNorm suits recurrent networks.

An LSTM reads digits that are written with a pen, as 8 points, and spoken ones, as 3 to 32 steps of sound; the state
after a sequence's last step says the class. The sum of what the gates get, W x + U h, is not normalized, or by
LayerNorm, or by BatchNorm with moments of its own for each step, over the sequences that have that step, and gains that
start at .1 (arXiv:1603.09025). It trains with Adam in batches of 2, 8 and 64, each arm at the rate that was best for
it; small batches get more steps. Measured is the test loss.
"""

# N sequences, B sequences of a batch, S steps, F features of a step, D width, G gates: 4 x D

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from model.network.config import NormKind
from model.network.norms import make_norm
from studies.claim import Cell, Claim, Comparison, Measures, Results, Setting, tuned_cells
from studies.networks import EPS, norm_of
from studies.pictures import colour, label, lines
from studies.recordings import BANDS, pen_digits, spoken_digits
from studies.tasks import CLASSES
from studies.training import measured, train

TASKS = {"pen": pen_digits, "spoken": spoken_digits}
FEATURES = {"pen": 2, "spoken": BANDS}  # of a step
NORMS, SIZES, RATES = ("none", "layer_norm", "batch_norm"), (2, 8, 64), (3e-3, 1e-2, 3e-2)
STEPS = {2: 400, 8: 250, 64: 200}  # of training, of a batch size
WIDTH, GAIN = 32, 0.1
LOSS = 0.05  # nats: about a point of accuracy


def arm(task: str, norm: str, batch: int) -> Setting:
    return {"task": task, "norm": norm, "batch": batch}


def cells(found: Results, seeds: Sequence[int]) -> Iterator[Cell]:
    arms = [arm(task, norm, size) for task in TASKS for norm in NORMS for size in SIZES]
    return tuned_cells(found, seeds, arms, RATES, "loss")


class StepNorm(nn.Module):
    """One norm for all steps; a BatchNorm has moments of its own for each step, and shares gains and biases."""

    def __init__(self, kind: NormKind, width: int, longest: int) -> None:
        super().__init__()
        self.per_step = kind == "batch_norm"
        self.norms = nn.ModuleList(make_norm(kind, width, EPS) for _ in range(longest if self.per_step else 1))
        if self.per_step:
            nn.init.constant_(self.norms[0].weight, GAIN)  # type: ignore[arg-type]
            for norm in self.norms:
                norm.weight, norm.bias = self.norms[0].weight, self.norms[0].bias

    def forward(self, x_BG: Tensor, valid_B1: Tensor, step: int) -> Tensor:
        norm = self.norms[step if self.per_step else 0]
        if self.per_step and self.training and valid_B1.sum() < 2:
            return torch.zeros_like(x_BG).add(norm.bias)  # type: ignore[arg-type]  # one row has no variance
        return norm(x_BG.unsqueeze(1), valid_B1.unsqueeze(1))[0].squeeze(1)


class Recurrent(nn.Module):
    """An LSTM on sequences [B, S, F + 1], whose last feature is 1 for a step that is there, and 0 for padding."""

    def __init__(self, norm: NormKind, features: int, longest: int) -> None:
        super().__init__()
        self.read, self.remember = nn.Linear(features, 4 * WIDTH), nn.Linear(WIDTH, 4 * WIDTH, bias=False)
        self.norm, self.head = StepNorm(norm, 4 * WIDTH, longest), nn.Linear(WIDTH, CLASSES)

    def forward(self, x_BSF: Tensor) -> Tensor:
        read_BSG, valid_BS1 = self.read(x_BSF[..., :-1]), x_BSF[..., -1:]
        h_BD = c_BD = torch.zeros(len(x_BSF), WIDTH)
        for step in range(int(valid_BS1.sum(1).max())):  # nobody goes on after that
            valid_B1 = valid_BS1[:, step]
            gates_BG = self.norm(read_BSG[:, step] + self.remember(h_BD), valid_B1, step)
            keep, write, show, new = gates_BG.chunk(4, dim=1)
            # 1 is the usual bias: at first, the cell keeps its memory; in W x, a norm would take it away
            next_BD = torch.sigmoid(keep + 1) * c_BD + torch.sigmoid(write) * torch.tanh(new)
            c_BD = torch.where(valid_B1 > 0, next_BD, c_BD)
            h_BD = torch.where(valid_B1 > 0, torch.sigmoid(show) * torch.tanh(next_BD), h_BD)
        return self.head(h_BD)


def run(cell: Cell) -> Measures:
    task, size = cell.text("task"), cell.whole("batch")
    training, test = TASKS[task]().of(cell.seed)
    network = Recurrent(norm_of(cell), FEATURES[task], training.inputs.shape[1])
    losses = train(
        network,
        training,
        rate=cell.number("rate"),
        batch=size,
        steps=STEPS[size],
        seed=cell.seed,
        optimizer="adam",
    )
    return measured(network, losses, test)


def asked(task: str, sequences: str) -> tuple[Comparison, ...]:
    def below(question: str, other: str, size: int) -> Comparison:
        return Comparison(question, "loss", arm(task, "layer_norm", size), arm(task, other, size), "below", LOSS)

    return (
        below(f"On {sequences} in batches of 64, LayerNorm's test loss is below that without a norm", "none", 64),
        below("and in batches of 2", "none", 2),
        below(f"On {sequences} in batches of 64, LayerNorm's test loss is below BatchNorm's", "batch_norm", 64),
        below("and in batches of 2", "batch_norm", 2),
    )


COMPARISONS = (*asked("pen", "pen paths"), *asked("spoken", "spoken digits"))


def draw(found: Results, seeds: Sequence[int], figure: Figure) -> None:
    titles = ("pen paths: 8 steps", "spoken digits: 3 to 32 steps")
    for axes, task, title in zip(figure.subplots(1, 2), TASKS, titles, strict=True):
        for norm in NORMS:
            curves = np.stack([found.values("loss", seeds, **arm(task, norm, size)) for size in SIZES], axis=1)
            lines(axes, SIZES, curves, colour(norm), label(norm))
        axes.set(xscale="log", yscale="log", title=title, xlabel="sequences of a training batch")
        axes.set_xticks(SIZES, list(map(str, SIZES)), minor=False)
        axes.set_xticks([], minor=True)
    figure.axes[0].set_ylabel("test loss (nats, logarithmic)")
    figure.axes[0].legend(frameon=False)


def prepare() -> None:
    for task in TASKS.values():
        task()


CLAIM = Claim(
    number="C16",
    title="Recurrent networks",
    notes="Works well in: LayerNorm in RNNs, Transformers, small batch settings.",
    experiment="An LSTM on digits written with a pen (8 steps) and spoken ones (3 to 32 steps), without a norm, with "
    "LayerNorm, or with BatchNorm of each step; Adam, batches of 2, 8 and 64, each at its best rate; test loss.",
    holds="LayerNorm is the same at every step, and for every length and batch. An LSTM of this size trains as well "
    "without a norm; so what speaks for LayerNorm here is that it does no harm. BatchNorm needs moments of its own for "
    "each step, and enough sequences that reach it: in small batches it fails, and with long sequences it lags.",
    anchor="Ba et al. 2016, arXiv:1607.06450: LayerNorm for recurrent networks. Cooijmans et al. 2016, "
    "arXiv:1603.09025: BatchNorm in LSTMs, with moments for each step and gains of .1.",
    cells=cells,
    run=run,
    comparisons=COMPARISONS,
    draw=draw,
    prepare=prepare,
)
