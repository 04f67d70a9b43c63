"""docs/drift.md's curves: how the rate of drift grows with what there is to see."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.drift.judges import LEVEL, outside_judges
from benchmarks.drift.traffic import World, draw_windows, mixed, sample, state_shares
from runtime.drift.detector import MIN_REQUESTS

WINDOWS, KS_WINDOWS = 1000, 300  # a point
SHARES = (0, 2, 5, 10, 15, 20, 30)  # % out-of-scope
SIZES = (20, 30, 40, 50, 60, 80, 100, 150, 200)  # requests
AIM = 0.99  # of windows of 50 with typing errors


def draw_out_of_scope(world: World, path: Path) -> None:
    """Drift rate against the share of out-of-scope requests, for three window sizes."""
    figure, axes = new_figure()
    for size in (50, 200, 1000):
        draws = [mixed(world, size, round(size * share / 100)) for share in SHARES]
        found = [state_shares(world.reference, draw_windows([draw], WINDOWS))["drift"] for draw in draws]
        axes.plot(SHARES, found, marker="o", label=f"{size} requests")
    axes.axhline(LEVEL, color="0.6", linewidth=1)
    axes.set_xlabel("share of out-of-scope requests, %")
    axes.legend()
    figure.savefig(path, dpi=110)


def draw_typing_errors(worlds: dict[str, World], path: Path) -> None:
    """Drift rate on misspelt requests against the window's size, for every encoder; KS tests on the first."""
    figure, axes = new_figure()
    for name, world in worlds.items():
        found = [
            state_shares(world.reference, draw_windows([sample(world.requests["typos"], size)], WINDOWS))["drift"]
            for size in SIZES
        ]
        axes.plot(SIZES, found, marker="o", label=name)
    draw_ks(axes, next(iter(worlds.values())))
    axes.axhline(AIM, color="0.6", linewidth=1)
    axes.axvline(MIN_REQUESTS, color="0.6", linewidth=1, linestyle=":")
    axes.set_xlabel(f"requests, 6 % of their letters dropped (fewer than {MIN_REQUESTS} are not judged)")
    axes.legend()
    figure.savefig(path, dpi=110)


def draw_ks(axes: Axes, world: World) -> None:
    """The outside judges' rates on the same windows."""
    windows = {size: draw_windows([sample(world.requests["typos"], size)], KS_WINDOWS) for size in SIZES}
    for name, judge in outside_judges(len(world.manifest.layers), world.validation.shape[1]).items():
        found = [np.mean(judge([w.features for w in drawn], world.validation)) for drawn in windows.values()]
        axes.plot(SIZES, found, linestyle="--", linewidth=1, label=f"{name} (first encoder)")


def new_figure() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.set_ylabel("windows called drift")
    axes.set_ylim(-0.02, 1.02)
    axes.grid(alpha=0.3)
    return figure, axes
