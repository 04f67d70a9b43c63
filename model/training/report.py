"""What a person sees of a training run: a progress bar, a line an epoch, metrics.jsonl and a picture of the curves."""

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from model.training.checkpoint import CURVES, METRICS, replacing, writing
from runtime.console import PlainConsole, described

DRAWN = ("epoch", "step", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
DRAW_SECONDS = 10  # drawing takes a third of a second
COLUMNS = (
    described("bold"),
    BarColumn(),
    TextColumn("{task.completed}/{task.total} steps"),
    TextColumn("loss {task.fields[loss]:.3f}"),
    TextColumn("accuracy {task.fields[accuracy]:.3f}"),
    TextColumn("{task.fields[rate]:,.0f} tokens/s"),
    TimeRemainingColumn(),
)


@dataclass(slots=True)
class Sums:
    """What an epoch's averages are made of; kept with the state, so that a resumed epoch reports all of its steps."""

    loss: float = 0.0
    correct: int = 0
    rows: int = 0
    tokens: int = 0


class Report:
    """Collects the running numbers of an epoch and writes them where people look. Use as a context manager."""

    def __init__(self, directory: Path, title: str, console: PlainConsole) -> None:
        self.directory, self.title, self.console = directory, title, console
        self.progress = Progress(*COLUMNS, console=console)
        self.rows: list[dict[str, Any]] = []
        self.drawn = time.monotonic()
        self.sums = Sums()
        self.started = time.monotonic()

    def __enter__(self) -> "Report":
        self.progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.progress.stop()
        self.draw()

    def begin(self, step: int, total_steps: int, sums: Sums) -> None:
        """Starts the bar at `step`, and the epoch's averages at `sums`.

        Lines of metrics beyond `step` belong to an epoch that will be repeated, and go.
        """
        self.sums = sums
        path = self.directory / METRICS
        self.rows = [row for row in read_rows(path) if row["step"] <= step]
        self.write_metrics()
        self.task = self.progress.add_task(
            self.title, total=total_steps, completed=step, loss=0.0, accuracy=0.0, rate=0.0
        )

    def step(self, loss: float, correct: int, rows: int, tokens: int) -> None:
        self.sums.loss += loss * rows
        self.sums.correct += correct
        self.sums.rows += rows
        self.sums.tokens += tokens
        running = self.running()
        self.progress.update(
            self.task, advance=1, loss=running["loss"], accuracy=running["accuracy"], rate=running["rate"]
        )

    def running(self) -> dict[str, float]:
        seconds = max(time.monotonic() - self.started, 1e-9)
        rows = max(self.sums.rows, 1)
        return {
            "loss": self.sums.loss / rows,
            "accuracy": self.sums.correct / rows,
            "rate": self.sums.tokens / seconds,
        }

    def end_epoch(self, epoch: int, step: int, loss: float, accuracy: float, learning_rate: float) -> None:
        running = self.running()
        row = {
            "epoch": epoch + 1,
            "step": step,
            "train_loss": running["loss"],
            "train_accuracy": running["accuracy"],
            "validation_loss": loss,
            "validation_accuracy": accuracy,
            "learning_rate": learning_rate,
            "tokens_per_second": round(running["rate"]),
            "seconds": round(time.monotonic() - self.started, 2),
        }
        self.rows.append(row)
        self.write_metrics()
        if time.monotonic() - self.drawn > DRAW_SECONDS:
            self.draw()
        self.console.print(
            f"{self.title} epoch {epoch + 1}: loss {row['train_loss']:.4f}, validation loss {loss:.4f}, "
            f"validation accuracy {accuracy:.4f}, {row['seconds']:.1f} s",
            soft_wrap=True,
        )
        self.sums, self.started = Sums(), time.monotonic()

    def draw(self) -> None:
        if self.rows:
            draw_curves(self.rows, self.title, self.directory / CURVES)
        self.drawn = time.monotonic()

    def write_metrics(self) -> None:
        with replacing(self.directory / METRICS) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in self.rows))


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; none where it is missing or spoiled, since it only tells and decides nothing."""
    try:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
    except (OSError, ValueError, RecursionError):
        return []
    return [row for row in rows if isinstance(row, dict) and all(is_number(row.get(name)) for name in DRAWN)]


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) < math.inf


def draw_curves(rows: list[dict[str, Any]], title: str, path: Path) -> None:
    """Loss and accuracy over epochs, training and validation, as a PNG."""
    from matplotlib.figure import Figure  # takes a second to import

    epochs = [row["epoch"] for row in rows]
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    for axes, quantity in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for split in ("train", "validation"):
            axes.plot(epochs, [row[f"{split}_{quantity}"] for row in rows], marker=".", label=split)
        axes.set(xlabel="epoch", ylabel=f"{quantity} (nats)" if quantity == "loss" else quantity)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(title, parse_math=False)
    with writing(path):
        figure.savefig(path, dpi=110)
