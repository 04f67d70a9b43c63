"""C3: BatchNorm normalizes each feature over the batch, LayerNorm each sample over its features.

One sample is sent through a network in batches of 1, 2 and 64, among others of the test data. Measured is how far its
logits move from those that it gets alone in inference mode (the largest absolute difference). A norm of the sample
alone cannot move them; one over the batch moves them in training, and in inference not at all.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure

from studies.claim import Cell, Claim, Comparison, Measures, Results, Setting
from studies.networks import mlp, norm_of
from studies.pictures import colour, label, points
from studies.tasks import digits

NORMS, SIZES, DEPTH = ("layer_norm", "rms_norm", "batch_norm"), (1, 2, 64), 4
EXACT, CLEAR = 1e-4, 0.1  # logits that are as good as equal, in float32; a difference that changes answers


def cells(_found: Results, seeds: Sequence[int]) -> Iterator[Cell]:
    for norm in NORMS:
        yield from (Cell.of(seed, norm=norm) for seed in seeds)


@torch.inference_mode()
def run(cell: Cell) -> Measures:
    network = mlp(norm_of(cell), DEPTH)
    _, test = digits(seed=cell.seed)
    order = torch.randperm(len(test.targets), generator=torch.Generator().manual_seed(cell.seed))
    inputs = test.inputs[order[: max(SIZES)]]
    alone = network.eval()(inputs[:1])

    def moved(size: int, training: bool) -> float:
        return float((network.train(training)(inputs[:size])[0] - alone[0]).abs().max())

    # without an update of the running moments in between: inference is measured first
    return {f"inference_{size}": moved(size, False) for size in SIZES} | {
        f"training_{size}": moved(size, True) for size in SIZES
    }


def arm(norm: str) -> Setting:
    return {"norm": norm}


COMPARISONS = (
    Comparison(
        "A LayerNorm network answers alike in a batch of 64, training or not",
        "training_64", arm("layer_norm"), arm("rms_norm"), "alike", EXACT,
    ),
    Comparison(
        "A BatchNorm network in training answers differently in a batch of 64",
        "training_64", arm("layer_norm"), arm("batch_norm"), "below", CLEAR,
    ),
    Comparison(
        "and in inference, too: the batch decides",
        "inference_64", arm("layer_norm"), arm("batch_norm"), "below", CLEAR,
    ),
)  # fmt: skip


def draw(found: Results, seeds: Sequence[int], figure: Figure) -> None:
    for axes, mode in zip(figure.subplots(1, 2, sharey=True), ("training", "inference"), strict=True):
        arms = {
            f"{label(norm)}\nbatch of {size}": np.maximum(found.values(f"{mode}_{size}", seeds, norm=norm), 1e-8)
            for norm in NORMS
            for size in SIZES[1:]
        }
        points(axes, arms, [colour(norm) for norm in NORMS for _ in SIZES[1:]])
        axes.set(yscale="log", title=f"in {mode} mode")
        axes.tick_params(axis="x", labelsize=7)
        if mode == "training":
            axes.set_ylabel("how far a sample's logits move\nwhen it is not alone")


CLAIM = Claim(
    number="C3",
    title="What is normalized over what",
    notes="BatchNorm normalizes each feature across the batch; LayerNorm normalizes all features of each sample.",
    experiment="One digit through an MLP of 4 layers, in batches of 1, 2 and 64, in training and in inference mode; "
    "how far its logits move.",
    holds="True, but BatchNorm depends on the batch in training only: in inference it uses running moments.",
    anchor="Ba et al. 2016, arXiv:1607.06450: LayerNorm computes the same in training and in inference.",
    cells=cells,
    run=run,
    comparisons=COMPARISONS,
    draw=draw,
)
