"""What every norm sees while an encoder trains, and how far what feeds it learns: a row of metrics every few steps.

`addnorm train --record-norms` writes norm_record.jsonl, and norm_record.png: layers by steps.
"""

# N tokens, L norms

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.network.encoder import Encoder, EncoderOutput
from model.network.norms import NormStatistics
from model.training.batches import Batch
from model.training.checkpoint import replacing, writing
from runtime.statistics.moments import Moments

RECORD, PICTURE = "norm_record.jsonl", "norm_record.png"
ROWS = 200  # of a run, about; each takes as long as a tenth of a step
TITLES = {
    "mean": "mean of the tokens' means, at the norm's input",
    "variance": "mean of the tokens' variances, log10",
    "gradient": "norm of the gradient of what feeds it, log10",
    "update": "a step's change of these weights / their norm, log10",
}
SMALLEST = 1e-12


class NormRecord:
    """Records every norm of an encoder, and the module that the norm belongs to: its Add & Norm, or the embeddings.

    Args:
        directory: the run's.
        total_steps: of the run, over which the rows are spread.

    Attributes:
        rows: for each step that was recorded, in network order: the tokens' `mean` and `variance` [L], the `gradient`
            norm of the weights [L], and their relative change in the step, `update` [L].
    """

    def __init__(self, model: Encoder, directory: Path, total_steps: int) -> None:
        self.path, self.every = directory / RECORD, max(1, total_steps // ROWS)
        self.picture = directory / PICTURE
        modules, norms = dict(model.named_modules()), model.norms()
        self.names = [name for name, _ in norms]
        self.eps = np.array([norm.eps for _, norm in norms])
        self.weights = [
            matrices(modules[name.rpartition(".")[0]] if "." in name else modules[name]) for name in self.names
        ]
        self.rows: list[dict[str, Any]] = []

    def resume(self, step: int) -> None:
        """Goes on from `step`; rows beyond it belong to steps that are repeated."""
        self.rows = [row for row in read_record(self.path) if row["step"] < step and row["norms"] == self.names]
        with replacing(self.path) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in self.rows))

    @contextmanager
    def recording(self, step: int, output: EncoderOutput, batch: Batch) -> Iterator[None]:
        """Around the optimizer's step, after the gradients are there."""
        if step % self.every:
            yield
            return
        means, variances = seen(output.statistics, batch, self.eps)
        before = [[weight.detach().clone() for weight in weights] for weights in self.weights]
        gradient = [length([weight.grad for weight in weights if weight.grad is not None]) for weights in self.weights]
        yield
        update = [
            length([now.detach() - then for now, then in zip(weights, old, strict=True)]) / max(length(old), SMALLEST)
            for weights, old in zip(self.weights, before, strict=True)
        ]
        self._add({"step": step, "mean": means, "variance": variances, "gradient": gradient, "update": update})

    def _add(self, row: dict[str, Any]) -> None:
        self.rows.append(row | {"norms": self.names})
        with writing(self.path), self.path.open("a") as file:
            file.write(json.dumps(self.rows[-1]) + "\n")

    def draw(self) -> None:
        """Four pictures of layers by steps; nothing where there is nothing to see."""
        if len(self.rows) > 1:
            draw_record(self.rows, self.picture)


def matrices(module: nn.Module) -> list[nn.Parameter]:
    """A module's weights; those of a norm that has no module around it are its scale."""
    found = [weight for weight in module.parameters() if weight.dim() > 1]
    return found or list(module.parameters())


def seen(statistics: list[NormStatistics], batch: Batch, eps: NDArray[np.float64]) -> tuple[list[float], list[float]]:
    """Mean over the valid tokens of their means and variances, at each norm [L]; as statistics of traffic are."""
    valid_PS = batch.inputs[2] > 0
    columns = [(each.mean.detach()[valid_PS], each.inv_std.detach()[valid_PS]) for each in statistics]
    means_NL = torch.cat([mean for mean, _ in columns], dim=1).double().cpu().numpy()
    inv_std_NL = torch.cat([inv_std for _, inv_std in columns], dim=1).double().cpu().numpy()
    values = np.concatenate([means_NL, np.maximum(1 / np.square(inv_std_NL) - eps, 0.0)], axis=1)
    found = Moments.of(values, np.isfinite(values)).mean.tolist()
    return found[: len(eps)], found[len(eps) :]


def length(tensors: list[Tensor]) -> float:
    """Euclidean norm of all values together."""
    return float(sum(float(each.double().square().sum()) for each in tensors) ** 0.5)


def read_record(path: Path) -> list[dict[str, Any]]:
    """The rows of a record; none where it is missing or spoiled, since it only tells and decides nothing."""
    try:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        return [row for row in rows if {"step", "norms", *TITLES} <= row.keys() and isinstance(row["step"], int)]
    except (OSError, ValueError, AttributeError):
        return []


def draw_record(rows: list[dict[str, Any]], path: Path) -> None:
    """Layers by steps, the input at the top, as a PNG."""
    from matplotlib.figure import Figure  # takes a second to import

    names, steps = rows[-1]["norms"], [row["step"] for row in rows]
    figure = Figure(figsize=(12, 1.6 + 0.5 * len(names)), layout="constrained")
    for axes, (measure, title) in zip(
        figure.subplots(2, 2, sharex=True, sharey=True).flat, TITLES.items(), strict=True
    ):
        values = np.array([row[measure] for row in rows], dtype=float).T
        if measure == "mean":
            largest = max(float(np.abs(values).max()), SMALLEST)
            image = axes.pcolormesh(steps, range(len(names)), values, cmap="RdBu_r", vmin=-largest, vmax=largest)
        else:
            shown = np.log10(np.where(values > 0, values, np.nan))  # a rate of zero changes nothing
            image = axes.pcolormesh(steps, range(len(names)), shown, cmap="viridis")
        figure.colorbar(image, ax=axes)
        axes.set_title(title, fontsize=10)
        axes.set_yticks(range(len(names)), names, fontsize=8)
    for axes in figure.axes[2:4]:
        axes.set_xlabel("step")
    figure.axes[0].invert_yaxis()
    with writing(path):
        figure.savefig(path, dpi=110)
