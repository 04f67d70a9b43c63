"""The loss of every step that a trainer takes."""

import io
from typing import Any

from model.training.report import Report
from model.training.trainer import Trainer
from runtime.console import PlainConsole


def losses(trainer: Trainer) -> list[float]:
    """Of every step."""
    found: list[float] = []
    step = trainer.train_step

    def note(*args: Any) -> tuple[float, int]:
        found.append((told := step(*args))[0])
        return told

    trainer.train_step = note  # type: ignore[method-assign]
    with Report(trainer.directory, "run", PlainConsole(file=io.StringIO())) as report:
        trainer.run(report)
    return found
