"""C1: normalization stabilizes and accelerates training.

Digits, by MLPs of 3 and of 12 hidden layers with SGD (no norm, LayerNorm, BatchNorm) and by a Transformer encoder of 8
layers with Adam (no norm, LayerNorm before each sublayer), each arm at the rate that was best for it. Measured are the
test loss after a fixed number of steps, and how many steps it took until the mean training loss of 10 steps was below
.5 (all of them, if it never was). The MLPs of 12 layers also train at one high rate, the same for all.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.figure import Figure

from studies.claim import Cell, Claim, Comparison, Measures, Results, Setting, tuned_cells
from studies.networks import encoder, mlp, norm_of
from studies.pictures import colour, label, points
from studies.tasks import digits
from studies.training import measured, train

BATCH, REACHED, WINDOW = 32, 0.5, 10
STEPS = {"mlp": 200, "encoder": 100}
RATES = {"mlp": (0.01, 0.03, 0.1, 0.3, 1.0, 3.0), "encoder": (3e-4, 1e-3, 3e-3, 1e-2)}
HIGH = 0.3
NETWORKS = {
    ("mlp", 3): ("none", "layer_norm", "batch_norm"),
    ("mlp", 12): ("none", "layer_norm", "batch_norm"),
    ("encoder", 8): ("none", "layer_norm"),
}
LOSS, FASTER = 0.05, 20.0  # nats: about a point of accuracy; steps: a tenth of what the MLPs get


def arm(network: str, depth: int, norm: str, at: str = "best") -> Setting:
    return {"network": network, "depth": depth, "norm": norm, "at": at}


def cells(found: Results, seeds: Sequence[int]) -> Iterator[Cell]:
    for (network, depth), norms in NETWORKS.items():
        yield from tuned_cells(found, seeds, [arm(network, depth, norm) for norm in norms], RATES[network], "loss")
    for norm in NETWORKS["mlp", 12]:
        yield from (Cell.of(seed, **arm("mlp", 12, norm, "high"), rate=HIGH) for seed in seeds)


def run(cell: Cell) -> Measures:
    norm, depth, is_mlp = norm_of(cell), cell.whole("depth"), cell.text("network") == "mlp"
    training, test = digits("rows" if is_mlp else "sequences", cell.seed)
    network = mlp(norm, depth) if is_mlp else encoder(norm, "pre", depth, d_model=32)
    steps = STEPS[cell.text("network")]
    losses = train(
        network,
        training,
        rate=cell.number("rate"),
        batch=BATCH,
        steps=steps,
        seed=cell.seed,
        optimizer="sgd" if is_mlp else "adam",
    )
    return measured(network, losses, test) | {"steps": float(until(losses, steps))}


def until(losses: Sequence[float], steps: int) -> int:
    """How many steps it took until the mean of the last ones was below REACHED; `steps` if it never was."""
    ends = range(WINDOW, len(losses) + 1)
    return next((end for end in ends if np.mean(losses[end - WINDOW : end]) < REACHED), steps)


COMPARISONS = (
    Comparison(
        "At depth 12, the MLP with BatchNorm ends at a lower loss than without a norm",
        "loss", arm("mlp", 12, "batch_norm"), arm("mlp", 12, "none"), "below", LOSS,
    ),
    Comparison(
        "and with LayerNorm, too",
        "loss", arm("mlp", 12, "layer_norm"), arm("mlp", 12, "none"), "below", LOSS,
    ),
    Comparison(
        "At depth 12, the MLP with BatchNorm needs fewer steps to a training loss of .5",
        "steps", arm("mlp", 12, "batch_norm"), arm("mlp", 12, "none"), "below", FASTER,
    ),
    Comparison(
        "and with LayerNorm, too",
        "steps", arm("mlp", 12, "layer_norm"), arm("mlp", 12, "none"), "below", FASTER,
    ),
    Comparison(
        "At depth 3, the MLP with BatchNorm ends at a lower loss than without a norm",
        "loss", arm("mlp", 3, "batch_norm"), arm("mlp", 3, "none"), "below", LOSS,
    ),
    Comparison(
        "and with LayerNorm, too",
        "loss", arm("mlp", 3, "layer_norm"), arm("mlp", 3, "none"), "below", LOSS,
    ),
    Comparison(
        "At the high rate, the MLP of depth 12 is stable with BatchNorm: a lower loss than without a norm",
        "loss", arm("mlp", 12, "batch_norm", "high"), arm("mlp", 12, "none", "high"), "below", LOSS,
    ),
    Comparison(
        "The encoder of 8 layers ends at a lower loss with LayerNorm than without a norm",
        "loss", arm("encoder", 8, "layer_norm"), arm("encoder", 8, "none"), "below", LOSS,
    ),
)  # fmt: skip


def draw(found: Results, seeds: Sequence[int], figure: Figure) -> None:
    panels = [(network, depth, "best") for network, depth in NETWORKS]
    panels.insert(2, ("mlp", 12, "high"))
    for axes, (network, depth, at) in zip(figure.subplots(1, 4, sharey=True), panels, strict=True):
        norms = NETWORKS[network, depth]
        names = {norm: label(norm).replace(" ", "\n").replace("Norm", "-\nNorm") for norm in norms}
        arms = {names[norm]: found.values("loss", seeds, **arm(network, depth, norm, at)) for norm in norms}
        points(axes, arms, [colour(norm) for norm in norms])
        name, rate = "MLP" if network == "mlp" else "encoder", "best rates" if at == "best" else f"rate {HIGH}"
        axes.set(yscale="log", title=f"{name}, {depth} layers\n{rate}")
        axes.tick_params(axis="x", labelsize=7)
    figure.axes[0].set_ylabel("test loss (nats, logarithmic)")


CLAIM = Claim(
    number="C1",
    title="Faster and more stable training",
    notes="The goal of both Batch Normalization and Layer Normalization is the same: to stabilize and accelerate "
    "training.",
    experiment="MLPs of 3 and 12 layers (SGD, 200 steps) and an encoder of 8 layers (Adam, 100 steps), with and "
    "without norms, each at its best rate; test loss, and steps to a training loss of .5.",
    holds="True of BatchNorm in deep networks, and at high rates. A network that is shallow, or well initialized, "
    "trains about as well without a norm at a rate that suits it; and LayerNorm helps plain deep MLPs little.",
    anchor="Ioffe & Szegedy 2015, arXiv:1502.03167: with BatchNorm, higher rates and other changes, an Inception "
    "network's accuracy in 14 times fewer steps; with BatchNorm alone, in less than half. Zhang et al. 2019, "
    "arXiv:1901.09321 (Fixup): deep residual networks train without norms, too, if they are initialized for it.",
    cells=cells,
    run=run,
    comparisons=COMPARISONS,
    draw=draw,
)
