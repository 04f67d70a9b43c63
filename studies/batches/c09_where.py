"""C9: BatchNorm works well in CNNs and large batches, LayerNorm in Transformers and small batches.

A CNN of 4 layers (SGD) and a Transformer encoder of 2 (Adam, the norm before each sublayer) learn digits in batches of
2, 4, 16 and 64, with LayerNorm and with BatchNorm, each arm at its best rate. Small batches get more steps, so that
all arms learn; norms are compared within a network and a batch size. Measured is the test loss.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.figure import Figure

from studies.claim import Cell, Claim, Comparison, Measures, Results, Setting, tuned_cells
from studies.networks import cnn, encoder, norm_of
from studies.pictures import colour, label, lines
from studies.tasks import digits
from studies.training import measured, train

NETWORKS, NORMS, SIZES = ("cnn", "encoder"), ("layer_norm", "batch_norm"), (2, 4, 16, 64)
RATES = {"cnn": (0.05, 0.15, 0.5, 1.0), "encoder": (1e-3, 3e-3, 1e-2)}
STEPS = {"cnn": {2: 600, 4: 500, 16: 300, 64: 200}, "encoder": {2: 400, 4: 300, 16: 150, 64: 100}}  # of a batch size
LAYERS, WIDTH = 2, 32  # of the encoder
LOSS = 0.05  # nats: about a point of accuracy


def arm(network: str, norm: str, batch: int) -> Setting:
    return {"network": network, "norm": norm, "batch": batch}


def cells(found: Results, seeds: Sequence[int]) -> Iterator[Cell]:
    for network in NETWORKS:
        arms = [arm(network, norm, size) for norm in NORMS for size in SIZES]
        yield from tuned_cells(found, seeds, arms, RATES[network], "loss")


def run(cell: Cell) -> Measures:
    kind, norm, batch = cell.text("network"), norm_of(cell), cell.whole("batch")
    is_cnn = kind == "cnn"
    training, test = digits("pictures" if is_cnn else "sequences", cell.seed)
    network = cnn(norm) if is_cnn else encoder(norm, "pre", LAYERS, d_model=WIDTH)
    losses = train(
        network,
        training,
        rate=cell.number("rate"),
        batch=batch,
        steps=STEPS[kind][batch],
        seed=cell.seed,
        optimizer="sgd" if is_cnn else "adam",
    )
    return measured(network, losses, test)


COMPARISONS = (
    Comparison(
        "In a CNN with batches of 64, BatchNorm's test loss is below LayerNorm's",
        "loss", arm("cnn", "batch_norm", 64), arm("cnn", "layer_norm", 64), "below", LOSS,
    ),
    Comparison(
        "In a CNN with batches of 2, LayerNorm's is below BatchNorm's",
        "loss", arm("cnn", "layer_norm", 2), arm("cnn", "batch_norm", 2), "below", LOSS,
    ),
    Comparison(
        "and with batches of 4",
        "loss", arm("cnn", "layer_norm", 4), arm("cnn", "batch_norm", 4), "below", LOSS,
    ),
    Comparison(
        "In an encoder with batches of 64, LayerNorm's is below BatchNorm's",
        "loss", arm("encoder", "layer_norm", 64), arm("encoder", "batch_norm", 64), "below", LOSS,
    ),
    Comparison(
        "with batches of 4",
        "loss", arm("encoder", "layer_norm", 4), arm("encoder", "batch_norm", 4), "below", LOSS,
    ),
    Comparison(
        "and with batches of 2",
        "loss", arm("encoder", "layer_norm", 2), arm("encoder", "batch_norm", 2), "below", LOSS,
    ),
)  # fmt: skip


def draw(found: Results, seeds: Sequence[int], figure: Figure) -> None:
    titles = ("a CNN of 4 layers", f"a Transformer encoder of {LAYERS} layers")
    for axes, network, title in zip(figure.subplots(1, 2), NETWORKS, titles, strict=True):
        for norm in NORMS:
            curves = np.stack([found.values("loss", seeds, **arm(network, norm, size)) for size in SIZES], axis=1)
            lines(axes, SIZES, curves, colour(norm), label(norm))
        axes.set(xscale="log", yscale="log", title=title, xlabel="samples of a training batch")
        axes.set_xticks(SIZES, list(map(str, SIZES)), minor=False)
        axes.set_xticks([], minor=True)
    figure.axes[0].set_ylabel("test loss (nats, logarithmic)")
    figure.axes[0].legend(frameon=False)


CLAIM = Claim(
    number="C9",
    title="Where each works well",
    notes="Works well in: BatchNorm in CNNs and large batch training; LayerNorm in RNNs, Transformers and small batch "
    "settings.",
    experiment="A CNN of 4 layers (SGD) and an encoder of 2 (Adam), with LayerNorm and with BatchNorm, in batches of "
    "2, 4, 16 and 64, each at its best rate; test loss.",
    holds="BatchNorm suits CNNs, also in small batches: it averages over all pixels of a batch. LayerNorm is the rule "
    "in Transformers for language, whose batches vary more than digits do. Runs are short here, so speed counts, too; "
    "and large batches take away the noise that regularizes (C7).",
    anchor="Shen et al. 2020, arXiv:2003.07845 (PowerNorm): the statistics of batches vary much more in a Transformer "
    "for translation than in a ResNet for pictures. Wang et al. 2022, arXiv:2210.05153: BatchNorm fails there mainly "
    "because training and inference disagree.",
    cells=cells,
    run=run,
    comparisons=COMPARISONS,
    draw=draw,
)
