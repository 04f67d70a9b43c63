"""C10: LayerNorm is more stable than BatchNorm for input of variable length.

Digits of 8 steps go through the product's encoder: as they are, and with 32 steps of padding appended, which
attention leaves out in every arm. Measured is how far the first digit's logits move (the largest absolute difference):
in training mode; in inference mode, with the moments of that batch as running moments; and in training mode, when its
neighbours are cut short. BatchNorm comes in two arms: masked, as in the product, and unmasked, where padding counts.
"""

# B sequences, S steps, F features of a step, D width

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from model.network.encoder import Encoder
from model.network.norms import BatchNorm, NormStatistics
from studies.claim import Cell, Claim, Comparison, Measures, Results, Setting
from studies.networks import encoder
from studies.pictures import colour, points
from studies.tasks import digits

ARMS = {"layer_norm": "LayerNorm", "masked": "BatchNorm\nmasked", "unmasked": "BatchNorm\nunmasked"}
ROWS, STEPS, SHORT, PADS, LAYERS = 4, 8, 2, 32, 2
CLEAR = 0.1  # a difference of logits that changes answers


class Unmasked(nn.Module):
    """A BatchNorm that takes all steps [B, S, D] for valid ones, as `torch.nn.BatchNorm1d` does."""

    def __init__(self, norm: BatchNorm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x_BSD: Tensor, valid_BS1: Tensor) -> tuple[Tensor, NormStatistics]:
        return self.norm(x_BSD, torch.ones_like(valid_BS1))


def encoder_of(norm: str) -> Encoder:
    """The encoder of an arm; BatchNorm takes over a batch's moments at once."""
    network = encoder("layer_norm" if norm == "layer_norm" else "batch_norm", "pre", LAYERS).encoder
    for name, module in network.norms():
        if isinstance(module, BatchNorm):
            module.momentum = 1.0
            if norm == "unmasked":
                network.set_submodule(name, Unmasked(module))
    return network


def logits(network: Encoder, x_BSF: Tensor, lengths: Sequence[int], pads: int) -> Tensor:
    """Of the first sequence, with `pads` steps appended to all; what is beyond a sequence's length is padding, too."""
    count, steps = len(x_BSF), x_BSF.shape[1] + pads
    valid_BS = torch.arange(steps) < torch.tensor(lengths).unsqueeze(1)
    padded_BSF = torch.cat([x_BSF, torch.zeros(count, pads, x_BSF.shape[2])], dim=1) * valid_BS.unsqueeze(2)
    pooling = torch.block_diag(*(valid_BS / valid_BS.sum(1, keepdim=True)))  # type: ignore[no-untyped-call]
    return network(padded_BSF, torch.arange(steps).expand(count, steps), valid_BS.long(), pooling).logits[0]


@torch.inference_mode()
def run(cell: Cell) -> Measures:
    network, (_, test) = encoder_of(cell.text("norm")), digits("sequences", cell.seed)
    order = torch.randperm(len(test.targets), generator=torch.Generator().manual_seed(cell.seed))
    inputs, whole = test.inputs[order[:ROWS]], [STEPS] * ROWS

    def both(pads: int) -> tuple[Tensor, Tensor]:
        """In training mode, and then in inference mode, without padding."""
        training = logits(network.train(), inputs, whole, pads)
        return training, logits(network.eval(), inputs, whole, 0)

    (training, inference), (padded_training, padded_inference) = both(0), both(PADS)
    cut = logits(network.train(), inputs, [STEPS] + [SHORT] * (ROWS - 1), 0)
    return {
        "training": distance(training, padded_training),
        "inference": distance(inference, padded_inference),
        "neighbours": distance(training, cut),
    }


def distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


def arm(norm: str) -> Setting:
    return {"norm": norm}


def cells(_found: Results, seeds: Sequence[int]) -> Iterator[Cell]:
    for norm in ARMS:
        yield from (Cell.of(seed, norm=norm) for seed in seeds)


COMPARISONS = (
    Comparison(
        "In training, 32 steps of padding move logits less with LayerNorm than with BatchNorm that counts them",
        "training", arm("layer_norm"), arm("unmasked"), "below", CLEAR,
    ),
    Comparison(
        "and in inference, after a batch that was padded",
        "inference", arm("layer_norm"), arm("unmasked"), "below", CLEAR,
    ),
    Comparison(
        "In training, they move them less with LayerNorm than with BatchNorm that leaves them out",
        "training", arm("layer_norm"), arm("masked"), "below", CLEAR,
    ),
    Comparison(
        "Neighbours that are cut short move them less with LayerNorm than with BatchNorm that leaves padding out",
        "neighbours", arm("layer_norm"), arm("masked"), "below", CLEAR,
    ),
)  # fmt: skip


def draw(found: Results, seeds: Sequence[int], figure: Figure) -> None:
    titles = {
        "training": "32 steps appended,\nin training",
        "inference": "32 steps appended,\nin inference, afterwards",
        "neighbours": "neighbours cut short,\nin training",
    }
    for axes, (measure, title) in zip(figure.subplots(1, 3, sharey=True), titles.items(), strict=True):
        arms = {name: np.maximum(found.values(measure, seeds, norm=norm), 1e-8) for norm, name in ARMS.items()}
        points(axes, arms, [colour("layer_norm" if norm == "layer_norm" else "batch_norm") for norm in ARMS])
        axes.set(yscale="log", title=title)
        axes.tick_params(axis="x", labelsize=7)
    figure.axes[0].set_ylabel("how far a sequence's logits move")


CLAIM = Claim(
    number="C10",
    title="Sequences of variable length",
    notes="More stable than BatchNorm for sequential or variable-length input.",
    experiment="Four digits of 8 steps through an encoder of 2 layers, as they are, with padding appended, and with "
    "neighbours cut to 2 steps; how far the first one's logits move.",
    holds="True of a BatchNorm that counts padding, which the usual modules do. One that leaves it out gives the same "
    "logits however much is appended; but the lengths of the neighbours still decide over them in training.",
    anchor="Shen et al. 2020, arXiv:2003.07845 (PowerNorm): the statistics of batches vary much more in a Transformer "
    "for translation than in a ResNet for pictures.",
    cells=cells,
    run=run,
    comparisons=COMPARISONS,
    draw=draw,
)
