"""What drift is judged by: sums over requests, which merge by addition, whatever window or worker they come from."""

# C classes, K numbers of a request, W counters of the sketch

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

COUNTERS = 256  # of the sketch: the sum of squared counts is known to 9 %


def sketch(identities: Sequence[int]) -> Ints:
    """The AMS sketch of some inputs [W]: each adds 1 or -1 to a counter, which its hash chooses.

    Alon, Matias & Szegedy 1999, "The space complexity of approximating the frequency moments"; counters by hash as
    Charikar, Chen & Farach-Colton 2002.
    """
    hashes = np.array(identities, dtype=np.uint64)
    signs = 1.0 - 2.0 * (hashes >> np.uint64(63)).astype(np.float64)
    return np.bincount(hashes.astype(np.int64) & (COUNTERS - 1), weights=signs, minlength=COUNTERS).astype(np.int64)


def nothing() -> Any:
    return np.zeros(0)


@dataclass(frozen=True, slots=True)
class Traffic:
    """Sums over some requests.

    Attributes:
        counts: requests per predicted class [C].
        totals: sum of the requests' numbers [K].
        by_class: sums of the requests' unlikeness, and of their probabilities of being right, per predicted class
            [2, C]; empty where there are no such numbers.
        repeats: the sketch of what was asked [W]; empty where nothing is in it.
        sketched: requests that are in the sketch.
    """

    counts: Ints
    totals: Floats
    by_class: Floats = field(default_factory=nothing)
    repeats: Ints = field(default_factory=nothing)
    sketched: int = 0

    @classmethod
    def nothing(cls) -> Self:
        """No traffic of any model: merged with other traffic it is that traffic."""
        return cls(np.zeros(0, dtype=np.int64), np.zeros(0))

    @classmethod
    def of(
        cls,
        numbers: Floats,
        classes: Ints,
        num_classes: int,
        identities: Sequence[int] = (),
        judged: Floats | None = None,
    ) -> Self:
        """The sums over requests with these numbers [R, K] and predicted classes [R].

        Args:
            judged: what is summed by class [2, R].
        """
        return cls(
            np.bincount(classes, minlength=num_classes),
            numbers.sum(0),
            nothing() if judged is None else np.stack([np.bincount(classes, row, num_classes) for row in judged]),
            sketch(identities) if len(identities) else nothing(),
            len(identities),
        )

    @property
    def requests(self) -> int:
        return int(np.rint(self.counts.sum()))

    @property
    def effective(self) -> float:
        """How many unlike inputs tell as much: n^2 / F2, F2 being the sum of the inputs' squared counts.

        Where each was asked once it is their number. The effective sample size of weights (Kish 1965).
        """
        count = float(self.requests)
        squares = float(np.square(self.repeats.astype(np.float64)).sum()) + count - self.sketched
        return min(count, count * count / max(squares, 1.0))

    @property
    def most_repeated(self) -> float:
        """About the share of the input that was asked most often; 0 where there is no sketch."""
        count = self.requests
        return float(np.abs(self.repeats).max() / count) if len(self.repeats) and count else 0.0

    def without(self, part: Self) -> Self:
        """The rest, where `part` is some of this traffic."""
        if not len(part.counts):
            return self
        return type(self)(
            **{each.name: rest(getattr(self, each.name), getattr(part, each.name)) for each in fields(self)}
        )

    def merge(self, other: Self) -> Self:
        return self.merge_all([self, other])

    @classmethod
    def merge_all(cls, parts: Sequence[Self]) -> Self:
        """Many parts together, in one step."""
        some = [part for part in parts if len(part.counts)]
        if len(some) < 2:
            return some[0] if some else cls.nothing()
        return cls(**{each.name: total([getattr(part, each.name) for part in some]) for each in fields(cls)})


def rest(whole: Any, part: Any) -> Any:
    return whole - part if isinstance(part, int) or len(part) else whole


def total(values: Sequence[Any]) -> Any:
    """The sum; of arrays, of those that hold something."""
    if isinstance(values[0], int):
        return sum(values)
    held = [value for value in values if len(value)]
    return np.sum(held, axis=0) if held else nothing()
