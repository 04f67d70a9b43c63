"""How the study's pictures look: a colour a norm, all seeds visible, readable in print and on a dark page."""

# K points of a curve

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from studies.networks import NAMES

# Okabe and Ito's colours, which people who see colours differently tell apart
COLOURS = {"none": "#777777", "layer_norm": "#0072B2", "batch_norm": "#D55E00", "rms_norm": "#009E73"}
INK = "#222222"
STYLE: Any = {
    "figure.facecolor": "white",
    "savefig.facecolor": "white",  # on a dark page, too
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.labelcolor": INK,
    "svg.hashsalt": "addnorm",  # the same file for the same figures
    "svg.fonttype": "none",
}
SPREAD = 0.11  # of the points of one arm, sideways


def colour(norm: object) -> str:
    return COLOURS.get(str(norm), INK)


def label(norm: object) -> str:
    return next((name for kind, name in NAMES.items() if kind == norm), str(norm))


def points(axes: Axes, arms: Mapping[str, NDArray[np.float64]], colours: Sequence[str]) -> None:
    """Every seed of each arm as a point, and the arm's median as a line; what is not finite is written above."""
    for place, (values, tone) in enumerate(zip(arms.values(), colours, strict=True)):
        finite = values[np.isfinite(values)]
        sideways = place + np.linspace(-SPREAD, SPREAD, len(values))[: len(finite)]
        axes.plot(sideways, finite, "o", color=tone, markersize=4, alpha=0.75, markeredgewidth=0)
        if len(finite):
            axes.hlines(np.median(finite), place - 0.25, place + 0.25, color=tone, linewidth=2)
        if len(finite) < len(values):
            text = f"{len(values) - len(finite)} diverged"
            axes.annotate(text, (place, 1), xycoords=("data", "axes fraction"), ha="center", va="top", fontsize=8)
    axes.set_xticks(range(len(arms)), list(arms))
    axes.set_xlim(-0.6, len(arms) - 0.4)


def lines(
    axes: Axes,
    at: Sequence[float],
    curves: NDArray[np.float64],
    tone: str,
    name: str,
    style: str = "-",
) -> None:
    """Every seed's curve [seeds, K] as a thin line, and their median as a thick one."""
    for curve in curves:
        axes.plot(at, curve, style, color=tone, linewidth=0.6, alpha=0.45)
    axes.plot(at, np.median(curves, axis=0), style, color=tone, linewidth=2.2, label=name)


def legend(axes: Axes, norms: Sequence[str]) -> None:
    """Which colour is which norm."""
    handles = [Line2D([], [], color=colour(norm), linewidth=2.2, label=label(norm)) for norm in norms]
    axes.legend(handles=handles, frameon=False, fontsize=9)


def new_figure(width: float = 8.0, height: float = 3.4) -> Figure:
    with mpl.rc_context(STYLE):
        return Figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        figure.savefig(path, metadata={"Date": None})
