"""Which norms fine-tuning moved: what flows into each over the validation texts, before and after."""

# N tokens, L norms

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from model.data.dataset import Split
from model.finetuning.checkpoint import FineTunedEncoder
from model.training.batches import evaluation_batches
from model.training.checkpoint import writing
from model.training.device import device_of, to_device
from runtime.graph.batch import token_values
from runtime.graph.inputs import InputEncoder
from runtime.statistics.moments import Moments

NORMS, PICTURE = "norms.json", "norms.png"
SMALLEST = 1e-12  # ratio of variances


class Movement(NamedTuple):
    """How far one norm's input moved.

    Attributes:
        mean: of the average token mean, in standard deviations of token means before.
        variance: ratio of the average token variance to that before.
    """

    name: str
    mean: float
    variance: float


@torch.inference_mode()
def measure(model: FineTunedEncoder, split: Split, encoder: InputEncoder) -> dict[str, list[float]]:
    """Mean and standard deviation, over all tokens, of every norm's token means and variances [2L]."""
    layers, found = model.network.norms, Moments.empty(2 * len(model.network.norms))
    model.eval()
    for batch in evaluation_batches(split, encoder, model.network.pooling):
        batch = to_device(batch, device_of(model))
        *_, statistics_PSL2 = model.network(*batch.inputs)
        valid = batch.inputs[2] > 0
        values: NDArray[np.float64] = token_values(statistics_PSL2[valid].cpu().numpy(), layers)
        found = found.merge(Moments.of(values, np.isfinite(values)))
    return {"mean": found.mean.tolist(), "std": found.std.tolist()}


def compare(names: list[str], before: dict[str, list[float]], after: dict[str, list[float]]) -> list[Movement]:
    old, new = np.array(before["mean"]), np.array(after["mean"])
    moved = (new - old) / np.array(before["std"]).clip(np.finfo(float).tiny)
    ratio = new / old.clip(np.finfo(float).tiny)
    return [Movement(name, float(moved[2 * i]), float(ratio[2 * i + 1])) for i, name in enumerate(names)]


def write(directory: Path, names: list[str], before: dict[str, Any], after: dict[str, Any]) -> list[Movement]:
    """Writes both, and a picture of them."""
    movements = compare(names, before, after)
    content = {"norms": names, "pretrained": before, "fine_tuned": after}
    with writing(directory / NORMS):
        (directory / NORMS).write_text(json.dumps(content, indent=1) + "\n")
    draw(movements, directory)
    return movements


def draw(movements: list[Movement], directory: Path) -> None:
    from matplotlib.figure import Figure  # takes a second to import

    names = [movement.name for movement in movements]
    figure = Figure(figsize=(9, 0.8 + 0.24 * len(names)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    left.barh(names, [movement.mean for movement in movements], color="#2a6f97")
    left.set_xlabel("token mean moved, standard deviations")
    left.invert_yaxis()
    right.barh(names, np.log2([max(movement.variance, SMALLEST) for movement in movements]), color="#d17a22")
    right.set_xlabel("token variance, log2 of after / before")
    for axes in (left, right):
        axes.axvline(0, color="#444444", linewidth=0.8)
        axes.grid(alpha=0.3, axis="x")
        axes.tick_params(labelsize=8)
    figure.suptitle("What fine-tuning changed in front of each norm, validation texts")
    with writing(directory / PICTURE):
        figure.savefig(directory / PICTURE, dpi=110)
