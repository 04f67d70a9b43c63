"""`python -m benchmarks.drift.tasks --data DATA`: how often windows are called drift where classes were held out.

Trains a model for each task (benchmarks/drift/held_out.py), a minute or two each, kept in --work. With --write it fills
docs/drift.md's tables.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import Field
from pydantic_settings import BaseSettings, CliApp

from benchmarks.document import markdown, write_tables
from benchmarks.drift.curves import draw_new_classes
from benchmarks.drift.held_out import CHOSEN_ON, UNTOUCHED, held_out
from benchmarks.drift.task_judges import task_judges
from benchmarks.drift.task_traffic import (
    Draw,
    Requests,
    TaskWorld,
    both,
    drawn_from,
    hot,
    load,
    repeated,
    some,
    task_states,
    with_share,
    zipf,
)
from runtime.options import option_config

DOCUMENT, IMAGE = Path("docs/drift.md"), Path("docs/img/new-classes.png")
JUDGED = ((50, 0.2), (200, 0.1), (1000, 0.05))  # requests, share of new classes; beside them, ordinary requests
JUDGED_WINDOWS = 200


class OfTasks(BaseSettings):
    """What is measured on the tasks."""

    model_config = option_config("python -m benchmarks.drift")

    data: Path = Path("data")
    """Folder with clinc150/, banking77/ and snips/."""
    work: Path = Path(".bench/drift")
    """Folder of the trained models."""
    names: list[str] = [*CHOSEN_ON, *UNTOUCHED]
    """Tasks."""
    write: bool = False
    """Fill the tables of docs/drift.md."""

    def world(self, name: str) -> TaskWorld:
        return load(held_out(name, self.data), self.work, self.data)


class Tasks(OfTasks):
    """Measures verdicts on models whose users ask about classes that were held out."""

    model_config = option_config("python -m benchmarks.drift.tasks")

    windows: int = Field(400, ge=10)
    """Windows of each row."""
    judges: bool = True
    """Whether outside judges are asked about the untouched tasks, too: minutes for each."""

    def cli_cmd(self) -> None:
        worlds = [self.world(name) for name in self.names]
        tables = {"tasks": self.rates(worlds), "accuracy": accuracies(worlds)}
        if self.judges:
            tables["judges"] = self.beside([world for world in worlds if world.name in UNTOUCHED])
        for name, table in tables.items():
            print(f"\n{name}\n\n{table}", flush=True)
        if self.write:
            write_tables(DOCUMENT, tables)
            groups = {"tasks that the method was chosen on": CHOSEN_ON, "tasks that it was not": UNTOUCHED}
            draw_new_classes({name: [w for w in worlds if w.name in held] for name, held in groups.items()}, IMAGE)

    def rates(self, worlds: Sequence[TaskWorld]) -> str:
        """The share of windows called drift; after a slash mix shift, where it is the right answer."""
        drawn = [rows(world) for world in worlds]
        lines = []
        for row in drawn[0]:
            cells = [
                self.cell(world, draws[row], "one class" in row) for world, draws in zip(worlds, drawn, strict=True)
            ]
            lines.append([row, *cells])
        return markdown(["window", *(world.name for world in worlds)], lines)

    def cell(self, world: TaskWorld, draws: Sequence[Draw], with_mix: bool) -> str:
        states = np.concatenate([task_states(world, draw, max(1, self.windows // len(draws))) for draw in draws])
        drift, mix = (f"{(states == state).mean():.3f}" for state in ("drift", "mix_shift"))
        return f"{drift} / {mix}" if with_mix else drift

    def beside(self, worlds: Sequence[TaskWorld]) -> str:
        """Every judge's share of alarms on the same windows."""
        lines = []
        for world in worlds:
            for size, share in JUDGED:
                judges = task_judges(world, size)
                draws = {f"{size:,} ordinary": some(world.kinds["ordinary"], size)}
                draws[f"{size:,}, {share:.0%} new"] = with_share(world, "new classes", size, share)
                for name, draw in draws.items():
                    windows = drawn_from(draw, JUDGED_WINDOWS)
                    ours = (task_states(world, draw, JUDGED_WINDOWS) == "drift").mean()
                    theirs = [np.mean([judge(window) for window in windows]) for judge in judges.values()]
                    lines.append([world.name, name, *(f"{rate:.3f}" for rate in (ours, *theirs))])
        return markdown(["task", "window", "AddNorm", *judges], lines)


def rows(world: TaskWorld) -> dict[str, list[Draw]]:
    """What is drawn for each row, in several ways where that is said."""
    ordinary, new = world.kinds["ordinary"], world.kinds["new classes"]
    found: dict[str, list[Draw]] = {f"{size:,} ordinary": [some(ordinary, size)] for size in (50, 200, 1000, 4000)}
    shares = ((50, 0.2), (200, 0.1), (1000, 0.05), (200, 0.2), (800, 0.1), (4000, 0.05), (1000, 0.02), (50, 0.5))
    for size, share in shares:
        found[f"{size:,}, {share:.0%} of new classes"] = [with_share(world, "new classes", size, share)]
    ones = [both(some(ordinary, 800), some(new[new.labels == label], 200)) for label in np.unique(new.labels)]
    found["1,000, 20% of one new class"] = ones
    found["50, 20% of another bot's"] = [with_share(world, "another bot's", 50, 0.2)]
    for kind in list(world.kinds)[3:]:
        found[f"50 {kind}"] = [some(world.kinds[kind], 50)]
    found["200, each asked four times"] = [repeated(ordinary, 200, 4)]
    for exponent in (0.8, 1.0, 1.1, 1.2):
        found[f"1,000 of 500 texts, Zipf {exponent}"] = [zipf(ordinary, 1000, 500, exponent)]
    for share in (0.1, 0.25, 0.5):
        found[f"200, {share:.0%} of them one text"] = [hot(ordinary, 200, share)]
    found["400, 20% of new classes, each asked four times"] = [repeated(mixed(ordinary, new), 400, 4)]
    found["200 of one class"] = [some(ordinary[ordinary.labels == c], 200) for c in np.unique(ordinary.labels)[:40]]
    return found


def mixed(ordinary: Requests, new: Requests) -> Requests:
    """As many requests of both that a fifth is of new classes."""
    rng = np.random.default_rng(0)
    return ordinary[rng.permutation(len(ordinary))[:1600]] + new[rng.permutation(len(new))[:400]]


def accuracies(worlds: Sequence[TaskWorld]) -> str:
    """Estimated and true accuracy of every kind of request whose classes the model knows; then their difference."""
    lines = []
    for kind in worlds[0].kinds:
        cells = []
        for world in worlds:
            asked = world.kinds[kind]
            judged = world.reference.judge(world.traffic(asked))
            true = asked.accuracy
            assert judged.unlike is not None
            told = "withheld" if judged.accuracy is None else f"{judged.accuracy:.3f}"
            cells.append(f"{told} / {true:.3f}; {judged.unlike:.0%} unlike")
        lines.append([kind, *cells])
    return markdown(["requests", *(world.name for world in worlds)], lines)


if __name__ == "__main__":
    CliApp.run(Tasks)
