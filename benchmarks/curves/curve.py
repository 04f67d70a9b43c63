"""A measured curve: its table, how fast its costs grow, and the picture of all curves."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from benchmarks.document import END, markdown, write_tables

Points = Mapping[float, float]  # cost by size
Tell = Callable[[str], None]
GROWTH = ("exponent", "of the last step")
COLUMNS = 3  # of panels in the picture
STYLES = {"outside": "-", "graph": "--"}  # of lines whose names begin so; both of a group have one color
LEAST_SPAN = 5.0  # of a panel's costs: from a fifth of their middle to five times it


@dataclass(frozen=True, slots=True)
class Curve:
    """What was measured of one kind of size.

    Attributes:
        name: of its table in the document, after `curves `.
        note: how it was measured, in a sentence or two.
        lines: what its panel shows, by the line's name.
        labels: of the panel's axes: size, cost.
    """

    name: str
    note: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    lines: Mapping[str, Points]
    labels: tuple[str, str]

    @property
    def block(self) -> str:
        """The name of its table in the document."""
        return f"curves {self.name}"


def exponent(points: Points) -> float:
    """The slope of log cost over log size, by least squares: 1 is linear growth; nan of fewer than two sizes."""
    kept = [(size, cost) for size, cost in points.items() if size > 0 and cost > 0]
    if len({size for size, _ in kept}) < 2:
        return math.nan
    x, y = np.log(np.array(kept, dtype=np.float64)).T
    x = x - x.mean()
    return float(x @ y / (x @ x))


def last_exponent(points: Points) -> float:
    """The same of the two largest sizes: a part that does not grow hides the growth of the rest at small sizes."""
    return exponent(dict(sorted(points.items())[-2:]))


def growth(points: Points) -> tuple[str, str]:
    """Both exponents, as tables show them; nothing where there is none."""
    found = exponent(points), last_exponent(points)
    first, last = ("" if math.isnan(each) else f"{each:.2f}" for each in found)
    return first, last


def growth_rows(name: str, lines: Sequence[Points]) -> list[list[str]]:
    """Two rows of a table, whose columns are these costs."""
    both = [growth(points) for points in lines]
    return [[f"{name}{title}", *each] for title, each in zip(GROWTH, zip(*both, strict=True), strict=True)]


def number(value: float) -> str:
    """Three digits of small numbers, whole large ones."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def show(curve: Curve, console: Console) -> None:
    table = Table(*curve.header, title=curve.block, title_justify="left")
    for row in curve.rows:
        table.add_row(*row)
    console.print(table)
    console.print(curve.note, highlight=False)


def write(curves: Sequence[Curve], document: Path, about: str) -> list[str]:
    """Fills the curves' blocks of a document, as far as it has them.

    Args:
        about: the machine, in words.

    Returns:
        What is missing in the document, a line for each block.
    """
    text, found, missing = document.read_text(), dict[str, str](), list[str]()
    for curve in curves:
        start = f"<!-- table: {curve.block} -->"
        if f"{start}\n" in text:
            found[curve.block] = f"{about} {curve.note}\n\n{markdown(curve.header, curve.rows)}"
        else:
            missing.append(f"{document.name} has no block for {curve.block}, add two lines: {start} and {END}")
    if found:
        write_tables(document, found)
    return missing


def draw(curves: Sequence[Curve], path: Path) -> None:
    """One panel a curve, both axes logarithmic; the graph is dashed, in the color of the rest of its group."""
    columns = min(COLUMNS, len(curves))
    rows = math.ceil(len(curves) / columns)
    figure = Figure(figsize=(4.2 * columns, 4 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, curve in zip(panels, curves, strict=False):
        draw_panel(panel, curve)
    for panel in panels[len(curves) :]:
        panel.set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def draw_panel(panel: Axes, curve: Curve) -> None:
    colors: dict[str, str] = {}
    costs: list[float] = []
    for name, points in curve.lines.items():
        shown = {size: cost for size, cost in sorted(points.items()) if size > 0 and cost > 0}
        kind, _, group = name.partition(", ")
        color = colors.setdefault(group if kind in STYLES else name, f"C{len(colors)}")
        style = STYLES.get(kind, "-")
        panel.plot(list(shown), list(shown.values()), style, color=color, marker="o", markersize=3, label=name)
        costs += shown.values()
    sizes = sorted({size for points in curve.lines.values() for size in points if size > 0})
    panel.set(xscale="log", yscale="log", xlabel=curve.labels[0], ylabel=curve.labels[1], title=curve.name)
    panel.set_xticks(sizes, [f"{size:g}" for size in sizes], fontsize=7)
    panel.minorticks_off()
    middle = math.sqrt(min(costs) * max(costs))
    span = max(1.3 * math.sqrt(max(costs) / min(costs)), LEAST_SPAN)  # small differences are to look small
    panel.set_ylim(middle / span, middle * span)
    panel.grid(alpha=0.3)
    panel.legend(fontsize=7, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.16))
