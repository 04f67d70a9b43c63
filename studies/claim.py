"""A claim: its sentence, its experiment, and what is compared, all of it written down before anything runs."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

Value = str | int | float
Setting = Mapping[str, Value]  # what is varied, by name
Measures = Mapping[str, float | list[float]]  # of one cell; NaN and infinity are results like others

TUNING_SEEDS = (1000, 1001)  # rates are chosen on these, and reported on others
FULL, QUICK = tuple(range(10)), (0, 1, 2)  # seeds, by which arms are paired


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of an experiment.

    Attributes:
        setting: what is varied, by name.
        seed: of the initialization and of the order of the data.
    """

    setting: tuple[tuple[str, Value], ...]
    seed: int

    @classmethod
    def of(cls, seed: int, **setting: Value) -> Self:
        return cls(tuple(sorted(setting.items())), seed)

    def __getitem__(self, name: str) -> Value:
        return dict(self.setting)[name]

    def text(self, name: str) -> str:
        return str(self[name])

    def number(self, name: str) -> float:
        return float(self[name])

    def whole(self, name: str) -> int:
        return int(self[name])

    @property
    def key(self) -> str:
        """The cell as JSON."""
        return json.dumps({**dict(self.setting), "seed": self.seed})

    def agrees(self, setting: Setting) -> bool:
        mine = dict(self.setting)
        return all(mine.get(name) == value for name, value in setting.items())


class Results:
    """What the cells of one claim gave.

    Args:
        cells: measures by cell.
    """

    def __init__(self, cells: dict[Cell, Measures]) -> None:
        self.cells = cells

    def __contains__(self, cell: object) -> bool:
        return cell in self.cells

    def of(self, seed: int, **setting: Value) -> Measures:
        """The measures of the one cell with this seed that agrees with `setting`.

        Raises:
            KeyError: there is none, or several.
        """
        found = [measures for cell, measures in self.cells.items() if cell.seed == seed and cell.agrees(setting)]
        if len(found) != 1:
            raise KeyError(f"{len(found)} cells with seed {seed} and {setting}")
        return found[0]

    def values(self, measure: str, seeds: Sequence[int], **setting: Value) -> NDArray[np.float64]:
        """A measure for each seed [seeds]."""
        return np.array([self.of(seed, **setting)[measure] for seed in seeds], dtype=np.float64)

    def curves(self, measure: str, seeds: Sequence[int], **setting: Value) -> NDArray[np.float64]:
        """A measure that is a list, for each seed [seeds, points]."""
        return np.array([self.of(seed, **setting)[measure] for seed in seeds], dtype=np.float64)

    def best(self, name: str, choices: Sequence[Value], measure: str, **setting: Value) -> Value | None:
        """The choice of `name` with the lowest mean `measure` over the tuning seeds; None while cells are missing.

        What is not finite counts as the worst.
        """
        means: list[float] = []
        for choice in choices:
            wanted = {**setting, name: choice}
            found = [self.cells.get(cell) for cell in tuning_cells(wanted)]
            values = [float(measures[measure]) for measures in found if measures is not None]  # type: ignore[arg-type]
            if len(values) < len(TUNING_SEEDS):
                return None
            means.append(float(np.mean(np.nan_to_num(values, nan=np.inf, posinf=np.inf))))
        return choices[int(np.argmin(means))]


def tuning_cells(setting: Setting) -> list[Cell]:
    return [Cell.of(seed, **setting) for seed in TUNING_SEEDS]


def tuned_cells(
    found: Results, seeds: Sequence[int], arms: Iterable[Setting], rates: Sequence[float], measure: str
) -> Iterator[Cell]:
    """Cells that choose each arm's rate, and then those that are reported, at the best one."""
    for arm in arms:
        for rate in rates:
            yield from tuning_cells({**arm, "rate": rate})
        best = found.best("rate", rates, measure, **arm)
        if best is not None:
            yield from (Cell.of(seed, **{**arm, "rate": best}) for seed in seeds)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A question to the runs, with the answer that the notes expect.

    Attributes:
        question: what is asked, as a sentence that is true if the notes are right.
        measure: what is compared, between the arms `a` and `b`, seed by seed.
        expected: whether the notes expect `a` below `b`, or the two alike.
        margin: the smallest difference that matters, in the measure's unit.
        measure_of_b: what is compared with it, where that is another measure.
    """

    question: str
    measure: str
    a: Setting
    b: Setting
    expected: Literal["below", "alike"]
    margin: float
    measure_of_b: str = ""


@dataclass(frozen=True, slots=True)
class Claim:
    """One row of the study.

    Attributes:
        number: C1 to C20.
        title: in a few words.
        notes: the sentence of the notes, or what people ask.
        experiment: what is done, and what is measured.
        holds: what is known to be true, in one or two sentences, whatever these runs say.
        anchor: what was published, and where.
        cells: which cells there are for these seeds, given what was found: rates are chosen on the way.
        run: one cell; under a minute.
        comparisons: fixed before the runs.
        draw: the picture, of all seeds.
        prepare: reads data sets that are not in a package; it raises DataError where they cannot be had.
        revision: raised when `run` measures something else, so that kept cells are not mixed with new ones.
    """

    number: str
    title: str
    notes: str
    experiment: str
    holds: str
    anchor: str
    cells: Callable[[Results, Sequence[int]], Iterable[Cell]]
    run: Callable[[Cell], Measures]
    comparisons: Sequence[Comparison]
    draw: Callable[[Results, Sequence[int], Figure], None]
    prepare: Callable[[], object] = tuple
    revision: int = 2  # in the first, rates were chosen by the digits that were reported on

    def missing(self, found: Results, seeds: Sequence[int]) -> list[Cell]:
        """Cells that are still to be run; more may follow from what they give."""
        return [cell for cell in dict.fromkeys(self.cells(found, seeds)) if cell not in found]
