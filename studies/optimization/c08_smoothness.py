"""C8: BatchNorm smooths the loss landscape.

An MLP of 8 layers learns digits at one rate, without a norm, with LayerNorm and with BatchNorm. Before every second
update, the loss and its gradient on that batch are taken at 8 points along the gradient, .25 to 4 updates away.
Measured are the range of the loss, the largest change of the gradient (its length), and the largest change of the
gradient per distance (`beta`), each as a power of ten: the median over the run (`_all`), and over the steps at which
the loss is between .5 and 1.5 nats (`_matched`), since arms that learn faster are soon where every landscape is flat.
"""

from collections.abc import Iterator, Sequence
from copy import deepcopy

import numpy as np
from matplotlib.figure import Figure
from torch import nn
from torch.nn import functional as F

from studies.claim import Cell, Claim, Comparison, Measures, Results, Setting
from studies.networks import mlp, norm_of
from studies.pictures import colour, label, legend, points
from studies.tasks import Split, digits
from studies.training import EachStep, batches, capped, gradient, measured, train

NORMS, MEASURES = ("none", "layer_norm", "batch_norm"), ("range", "change", "beta")
DEPTH, BATCH, STEPS, EVERY, RATE = 8, 64, 120, 2, 0.1
FACTORS = (0.25, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0)  # of an update
MATCHED = 0.5, 1.5  # nats
HALF = 0.3  # a power of ten: half or twice, which is less than what steps of one run differ by


def arm(norm: str) -> Setting:
    return {"norm": norm}


def cells(_found: Results, seeds: Sequence[int]) -> Iterator[Cell]:
    for norm in NORMS:
        yield from (Cell.of(seed, norm=norm) for seed in seeds)


def run(cell: Cell) -> Measures:
    training, test = digits(seed=cell.seed)
    network, rows = mlp(norm_of(cell), DEPTH), list[tuple[float, ...]]()
    watch = watcher(training, cell.seed, rows)
    losses = train(network, training, rate=RATE, batch=BATCH, steps=STEPS, seed=cell.seed, each_step=watch)
    found = np.array(rows)  # [steps, loss and MEASURES]
    logs = np.log10(np.maximum(found[:, 1:], 1e-12))
    matched = logs[(found[:, 0] >= MATCHED[0]) & (found[:, 0] <= MATCHED[1])]
    measures: dict[str, float] = measured(network, losses, test)
    for index, name in enumerate(MEASURES):
        measures[f"{name}_all"] = float(np.median(logs[:, index]))
        measures[f"{name}_matched"] = float(np.median(matched[:, index])) if len(matched) else float("nan")
    return measures


def watcher(training: Split, seed: int, rows: list[tuple[float, ...]]) -> EachStep:
    """Adds the loss and MEASURES, before every EVERY-th update."""
    stream = batches(training, BATCH, STEPS, seed)  # what `train` sees

    def watch(step: int, network: nn.Module) -> None:
        batch = next(stream)
        if step % EVERY == 0:
            rows.append(along_gradient(deepcopy(network), batch))  # so that no running moments move

    return watch


def along_gradient(network: nn.Module, batch: Split) -> tuple[float, float, float, float]:
    """The loss here; its range, the change of its gradient and beta among the points along the gradient."""
    start = nn.utils.parameters_to_vector(network.parameters()).detach()
    slope = gradient(network, batch)
    here = capped(F.cross_entropy(network(batch.inputs), batch.targets).item())
    losses, changes, betas = list[float](), list[float](), list[float]()
    for factor in FACTORS:
        nn.utils.vector_to_parameters(start - factor * RATE * slope, network.parameters())
        losses.append(capped(F.cross_entropy(network(batch.inputs), batch.targets).item()))
        changes.append(float((gradient(network, batch) - slope).norm()))
        betas.append(changes[-1] / (factor * RATE * float(slope.norm()) + 1e-12))
    return here, max(losses) - min(losses), max(changes), max(betas)


def lower(question: str, measure: str, norm: str = "batch_norm") -> Comparison:
    return Comparison(question, measure, arm(norm), arm("none"), "below", HALF)


COMPARISONS = (
    lower("BatchNorm halves the range of the loss along the gradient, over the run", "range_all"),
    lower("and how far the gradient changes", "change_all"),
    lower("and how far it changes per distance", "beta_all"),
    lower("Where the losses are alike, BatchNorm halves the range of the loss", "range_matched"),
    lower("and how far the gradient changes", "change_matched"),
    lower("and how far it changes per distance", "beta_matched"),
)


def draw(found: Results, seeds: Sequence[int], figure: Figure) -> None:
    titles = {
        "range": "range of the loss\n(nats)",
        "change": "change of the gradient\n(its length)",
        "beta": "change of the gradient\nper distance",
    }
    for axes, (measure, title) in zip(figure.subplots(1, 3), titles.items(), strict=True):
        arms = {
            f"{label(norm)}\n{name}": 10 ** found.values(f"{measure}_{part}", seeds, **arm(norm))
            for part, name in (("all", "whole run"), ("matched", "equal loss"))
            for norm in NORMS
        }
        points(axes, arms, [colour(norm) for _ in range(2) for norm in NORMS])
        axes.set(yscale="log", title=title)
        axes.set_xticks([1, 4], ["whole run", "at .5 to 1.5 nats"])
    legend(figure.axes[0], NORMS)


CLAIM = Claim(
    number="C8",
    title="A smoother loss",
    notes="Smooths the loss landscape (helps gradient flow).",
    experiment="An MLP of 8 layers at a rate of .1; the loss and its gradient at 8 points along the gradient, .25 to 4 "
    "updates away, over the run and where the loss is between .5 and 1.5 nats.",
    holds="True along the way that training takes at one rate. A part of it is that BatchNorm's gradients, and so its "
    "steps, are shorter: per distance, the gradient changes not so much less.",
    anchor="Santurkar et al. 2018, arXiv:1805.11604: the loss and its gradient change less along the gradient with "
    "BatchNorm.",
    cells=cells,
    run=run,
    comparisons=COMPARISONS,
    draw=draw,
)
