"""Results that no network gave: enough to see that a claim's cells, comparisons and picture belong together."""

import matplotlib as mpl
import numpy as np
import torch

from studies.claim import QUICK, Cell, Claim, Measures, Results
from studies.pictures import STYLE, new_figure
from studies.recordings import task_of
from studies.tasks import Task


def complete(claim: Claim, like: Measures) -> Results:
    """All cells of three seeds, whose measures are those of `like`, and a little more each."""
    found = Results({})
    draws = np.random.default_rng(0)
    while missing := claim.missing(found, QUICK):
        for cell in missing:
            found.cells[cell] = {name: (np.asarray(value) + draws.uniform()).tolist() for name, value in like.items()}
    return found


def check(claim: Claim, like: Measures) -> None:
    """Each comparison finds its arms, and the picture can be drawn, with what diverged, too."""
    found = complete(claim, like)
    for comparison in claim.comparisons:
        measures = comparison.measure, comparison.measure_of_b or comparison.measure
        for measure, arm in zip(measures, (comparison.a, comparison.b), strict=True):
            assert found.values(measure, QUICK, **arm).shape == (len(QUICK),)
    first = next(cell for cell in found.cells if cell.seed == QUICK[0])
    found.cells[first] = {
        name: value if isinstance(value, list) else float("nan") for name, value in found.cells[first].items()
    }
    with mpl.rc_context(STYLE):
        figure = new_figure()
        claim.draw(found, QUICK, figure)
        figure.canvas.draw()
    for axes in figure.axes:
        assert axes.get_title(loc="left") and axes.has_data()


def same_twice(claim: Claim, cell: Cell) -> Measures:
    """A cell's measures, which its seed alone decides."""
    torch.manual_seed(cell.seed)
    first = claim.run(cell)
    torch.manual_seed(cell.seed)
    second = claim.run(cell)
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name])
    return first


def sequences(longest: int, features: int, count: int = 120) -> Task:
    """Noise of 3 to `longest` steps in the place of a recording, its classes in turn."""
    draws = np.random.default_rng(0)
    shapes = [(3 + index % (longest - 2), features) for index in range(count)]
    part = [draws.normal(size=shape).astype(np.float32) for shape in shapes], np.arange(count) % 10
    return task_of([part] * 3)
