"""A claim without networks, and what the tests need of it."""

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.figure import Figure

from studies.claim import Cell, Claim, Comparison, Measures, Results, tuned_cells
from studies.pictures import points

RATES = (0.1, 1.0, 10.0)
HIGHER = {"a": 0.0, "b": 1.0}


def cells(found: Results, seeds: Sequence[int]) -> Iterator[Cell]:
    yield from tuned_cells(found, seeds, [{"arm": "a"}, {"arm": "b"}], RATES, "loss")


def run(cell: Cell) -> Measures:
    """A loss that is lowest at the rate 1, and higher by one for b."""
    noise = np.random.default_rng(cell.seed).normal(0, 0.1)
    return {"loss": abs(np.log10(cell.number("rate"))) + HIGHER[cell.text("arm")] + noise, "curve": [0.0, 1.0]}


def draw(found: Results, seeds: Sequence[int], figure: Figure) -> None:
    arms = {arm: found.values("loss", seeds, arm=arm) for arm in HIGHER}
    points(figure.subplots(), arms, ["black", "black"])


TOY = Claim(
    number="C99",
    title="Toys",
    notes="b is higher than a.",
    experiment="A number for each arm.",
    holds="It is so by construction.",
    anchor="nobody",
    cells=cells,
    run=run,
    comparisons=(Comparison("b's loss is above a's", "loss", {"arm": "a"}, {"arm": "b"}, "below", 0.5),),
    draw=draw,
)
