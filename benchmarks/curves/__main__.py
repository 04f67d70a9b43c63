"""How cost grows: `python -m benchmarks.curves [--quick] [--only NAME] [--write]`, about ten minutes.

Each curve makes one thing larger. Where one process is enough, the graph is told apart from all else that a request
takes, and of both the exponent of growth is given: the slope of log cost over log size, where 1 is linear.
"""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from pydantic import field_validator
from pydantic_settings import BaseSettings, CliApp
from rich.console import Console

from benchmarks.capacity.measure import check_cores, describe, on_core
from benchmarks.curves import extremes as large
from benchmarks.curves import history, parts, services
from benchmarks.curves.curve import Curve, Tell, draw, show, write
from benchmarks.serving.processes import SERVICE_CORE
from benchmarks.serving.servers import ROOT
from runtime.options import option_config

DOCUMENT, PICTURE = ROOT / "docs" / "benchmarks.md", ROOT / "docs" / "img" / "curves.png"
WIDTH = 200  # of tables in a file, characters
SHORT, LONG = 2.0, 60.0  # seconds of a curve in this process
BRIEF, LOADED = 1.0, 8.0  # seconds of a load
Measure = Callable[[bool, Tell], Curve]  # quickly or not


def on_one_core(measure: Measure) -> Measure:
    """The same, in this process on a core of its own."""

    def measured(quick: bool, tell: Tell) -> Curve:
        with on_core(SERVICE_CORE):
            return measure(quick, tell)

    return measured


@on_one_core
def tokens(quick: bool, tell: Tell) -> Curve:
    return parts.tokens(parts.LENGTHS, SHORT if quick else LONG, tell)


@on_one_core
def network(quick: bool, tell: Tell) -> Curve:
    layers, widths = ((1, 4), (128, 256)) if quick else (parts.LAYERS, parts.WIDTHS)
    return parts.network(layers, widths, SHORT if quick else LONG, tell)


@on_one_core
def classes(quick: bool, tell: Tell) -> Curve:
    return parts.classes((10, 1_000, 10_000) if quick else parts.CLASSES, SHORT if quick else LONG, tell)


def models(quick: bool, tell: Tell) -> Curve:
    return services.models((1, 5) if quick else services.COUNTS, BRIEF if quick else LOADED, tell)


@on_one_core
def recorded(quick: bool, tell: Tell) -> Curve:
    shares = (0.0, 0.5, 1.0) if quick else history.SHARES
    return history.history(shares, 3 if quick else 15, tell, many=None if quick else history.MANY)


@on_one_core
def extremes(quick: bool, tell: Tell) -> Curve:
    return large.extremes(tell, 3 if quick else large.TIMES)


def workers(quick: bool, tell: Tell) -> Curve:
    return services.workers(services.WORKERS, BRIEF if quick else LOADED, tell)


CURVES: dict[str, Measure] = {
    "tokens": tokens,
    "network": network,
    "classes": classes,
    "models": models,
    "history": recorded,
    "workers": workers,
    "extremes": extremes,
}


class Curves(BaseSettings):
    """Measures how cost grows, and prints a table for each curve."""

    model_config = option_config("python -m benchmarks.curves")

    quick: bool = False
    """A minute and a half: fewer sizes, shorter rounds, for a first look."""
    only: list[str] = []
    """Curves to measure: tokens, network, classes, models, history, workers, extremes; by default all."""
    write: bool = False
    """Fills the tables of docs/benchmarks.md, and draws docs/img/curves.png where all curves were measured."""
    json_file: Path | None = None
    """File that takes everything as JSON."""

    @field_validator("only")
    @classmethod
    def _known(cls, names: list[str]) -> list[str]:
        if unknown := [name for name in names if name not in CURVES]:
            raise ValueError(f"There is no curve {unknown[0]!r}, expected some of {', '.join(CURVES)}")
        return names

    def cli_cmd(self) -> None:
        check_cores()
        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # as a service does
        console, tell = Console(), Console(stderr=True).print
        console = console if console.is_terminal else Console(width=WIDTH)  # in a file, no cell is broken
        found = []
        for name in self.only or CURVES:
            found.append(CURVES[name](self.quick, tell))
            show(found[-1], console)
        if self.json_file:
            self.json_file.write_text(json.dumps([asdict(curve) for curve in found], indent=1) + "\n")
        if self.write:
            self.write_all(found)

    def write_all(self, found: list[Curve]) -> None:
        """Fills the blocks that there are; ends with status 1 where one is missing, and says which."""
        missing = write(found, DOCUMENT, f"{describe()}.")
        if len(found) == len(CURVES):
            draw(found, PICTURE)
        if missing:
            sys.exit("\n".join(missing))


if __name__ == "__main__":
    CliApp.run(Curves)
