"""docs/drift.md's curves: how the rate of drift grows with what there is to see."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.drift.judges import LEVEL, outside_judges
from benchmarks.drift.task_traffic import TaskWorld, task_states, with_share
from benchmarks.drift.traffic import World, draw_windows, mixed, sample, state_shares
from runtime.drift.detector import MIN_REQUESTS

WINDOWS, KS_WINDOWS, TASK_WINDOWS = 1000, 300, 200  # a point
SHARES = (0, 2, 5, 10, 15, 20, 30)  # % out-of-scope
SIZES = (20, 30, 40, 50, 60, 80, 100, 150, 200)  # requests
TASK_SIZES, NEW_SHARES = (50, 200, 1000, 4000), (0, 2, 5, 10, 20, 35, 50)  # requests; %
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


def draw_new_classes(groups: dict[str, Sequence[TaskWorld]], path: Path) -> None:
    """Drift rate against the share of new classes: average, worst and best of each group."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    for axes, (name, worlds) in zip(figure.subplots(1, len(groups), sharey=True), groups.items(), strict=True):
        for size in TASK_SIZES:
            rates = np.array([[new_class_rate(world, size, share) for share in NEW_SHARES] for world in worlds])
            (line,) = axes.plot(NEW_SHARES, rates.mean(0), marker="o", label=f"{size:,} requests")
            axes.fill_between(NEW_SHARES, rates.min(0), rates.max(0), color=line.get_color(), alpha=0.15)
        axes.set_title(name)
        axes.set_xlabel("share of new classes, %")
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("windows called drift")
    figure.axes[0].legend()
    figure.savefig(path, dpi=110)


def new_class_rate(world: TaskWorld, size: int, share: float) -> float:
    states = task_states(world, with_share(world, "new classes", size, share / 100), TASK_WINDOWS)
    return float((states == "drift").mean())


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
