"""C13: residual connections keep gradients alive, and let layers learn only the change.

MLPs of 4 and of 32 hidden layers, plain and residual, with BatchNorm, with LayerNorm and without a norm, learn digits
with SGD, each arm at the rate that was best for it. Without a norm, a residual one has He's initialization, or weights
that are smaller by the root of the depth (`scaled`). Measured are the test loss; at initialization, the gradient of the
first hidden weights over that of the last (`ratio`, in powers of ten) and its size (`spread`: 0 is neither vanishing
nor exploding); and after training, how much a layer changes its input: the length of output minus input over that of
the input (`change`, median of the layers but the first).
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
from studies.networks import Layer, mlp, norm_of
from studies.pictures import colour, label, points
from studies.tasks import Split, digits
from studies.training import measured, train

DEPTHS, PLAIN, RESIDUAL = (4, 32), "plain", "residual"
ARMS = (
    ("none", PLAIN), ("none", RESIDUAL), ("none", "scaled"), ("layer_norm", PLAIN), ("layer_norm", RESIDUAL),
    ("batch_norm", PLAIN), ("batch_norm", RESIDUAL),
)  # fmt: skip
RATES = (0.003, 0.01, 0.05, 0.2)
BATCH, STEPS, EXAMPLES = 32, 120, 256  # examples of the gradient at initialization
# nats: about a point of accuracy; powers of ten: twofold and tenfold; of the input's length
MARGINS = {"loss": 0.05, "spread": 0.3, "ratio": 1.0, "change": 0.3}


def arm(norm: str, path: str, depth: int) -> Setting:
    return {"norm": norm, "path": path, "depth": depth}


def cells(found: Results, seeds: Sequence[int]) -> Iterator[Cell]:
    arms = [arm(norm, path, depth) for depth in DEPTHS for norm, path in ARMS]
    return tuned_cells(found, seeds, arms, RATES, "loss")


def run(cell: Cell) -> Measures:
    training, test = digits(seed=cell.seed)
    depth, path = cell.whole("depth"), cell["path"]
    gain = depth**-0.5 if path == "scaled" else 1.0  # what the layers add then has about the variance of one
    network = mlp(norm_of(cell), depth, gain=gain, residual=path != PLAIN)
    found = ratio(network, training.take(EXAMPLES))
    losses = train(network, training, rate=cell.number("rate"), batch=BATCH, steps=STEPS, seed=cell.seed)
    changed = change(network, test.inputs)
    return measured(network, losses, test) | {"ratio": found, "spread": abs(found), "change": changed}


def hidden(network: nn.Sequential) -> list[Layer]:
    return [layer for layer in network if isinstance(layer, Layer)]


def ratio(network: nn.Sequential, split: Split) -> float:
    """Gradient of the first hidden weights over that of the last: their Frobenius norms, in powers of ten."""
    network = deepcopy(network).train()  # so that no running moments move
    layers = hidden(network)
    loss = F.cross_entropy(network(split.inputs), split.targets)
    first, last = torch.autograd.grad(loss, [layers[0].linear.weight, layers[-1].linear.weight])
    return float(first.double().norm().log10() - last.double().norm().log10())


@torch.inference_mode()
def change(network: nn.Sequential, x_BD: Tensor) -> float:
    """How far hidden layers but the first move what they read, as a share of its length: their median."""
    changes = []
    for index, layer in enumerate(hidden(network.eval())):
        y_BD = layer(x_BD)
        if index:
            changes.append(float((y_BD - x_BD).norm() / x_BD.norm()))
        x_BD = y_BD
    return float(np.median(changes))


def below_plain(norm: str, measure: str, text: str, path: str = RESIDUAL) -> Comparison:
    return Comparison(text, measure, arm(norm, path, 32), arm(norm, PLAIN, 32), "below", MARGINS[measure])


def vanishing(norm: str, text: str) -> Comparison:
    return Comparison(text, "ratio", arm(norm, PLAIN, 32), arm(norm, PLAIN, 4), "below", MARGINS["ratio"])


COMPARISONS = (
    below_plain("batch_norm", "loss", "At depth 32 with BatchNorm, residual MLPs end at a lower loss than plain ones"),
    below_plain("layer_norm", "loss", "with LayerNorm, too"),
    below_plain("none", "loss", "without a norm"),
    below_plain("none", "loss", "and without a norm, with scaled weights", "scaled"),
    below_plain("batch_norm", "spread", "With BatchNorm, residuals bring first and last gradient twofold closer"),
    below_plain("layer_norm", "spread", "with LayerNorm, too"),
    below_plain("none", "spread", "and without a norm"),
    vanishing("layer_norm", "In plain MLPs with LayerNorm, the first gradient over the last is at depth 32 a tenth of "
              "that at 4: it vanishes"),
    vanishing("none", "and without a norm"),
    below_plain("batch_norm", "change", "With BatchNorm, a residual layer changes its input less than a plain one"),
    below_plain("layer_norm", "change", "with LayerNorm, too"),
)  # fmt: skip


def draw(found: Results, seeds: Sequence[int], figure: Figure) -> None:
    panels = {
        ("loss", 4): "test loss (nats),\n4 layers",
        ("loss", 32): "test loss (nats),\n32 layers",
        ("ratio", 32): "gradient, first over last,\n32 layers (powers of ten)",
        ("change", 32): "share of its input that a\nlayer changes, 32 layers",
    }
    for axes, ((measure, depth), title) in zip(figure.subplots(1, 4), panels.items(), strict=True):
        arms = {f"{label(norm)}, {path}": found.values(measure, seeds, **arm(norm, path, depth)) for norm, path in ARMS}
        points(axes, arms, [colour(norm) for norm, _ in ARMS])
        axes.set_title(title, fontsize=8.5)
        axes.tick_params(axis="x", labelsize=7, labelrotation=90)
        axes.margins(y=0.2)
        if measure == "loss":
            axes.set_yscale("log")


CLAIM = Claim(
    number="C13",
    title="Residual connections",
    notes="The residual preserves signal and avoids it vanishing or exploding over many layers; layers learn only what "
    "needs to change, which is much easier.",
    experiment="MLPs of 4 and 32 layers, plain and residual, with BatchNorm, LayerNorm and no norm, each at its best "
    "rate; test loss, gradient of the first layer over that of the last, how far a layer moves its input.",
    holds="True that deep networks train with residuals, if a norm or small weights bound what is added. But plain "
    "ones do not fail because gradients vanish: with BatchNorm they explode; with LayerNorm, or He's weights, neither.",
    anchor="He et al. 2015, arXiv:1512.03385: deeper plain networks with BatchNorm train worse, although their "
    "gradients do not vanish. Yang et al. 2019, arXiv:1902.08129: at initialization, in fully connected networks with "
    "BatchNorm and no residual, gradients explode with depth.",
    cells=cells,
    run=run,
    comparisons=COMPARISONS,
    draw=draw,
)
