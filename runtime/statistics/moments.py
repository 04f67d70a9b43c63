"""Exact moments that merge: count, mean, sum of squared deviations (M2), minimum and maximum, in float64.

Merging follows Chan, Golub & LeVeque 1979, "Updating formulae and a pairwise algorithm for computing sample variances":
M2 = M2a + M2b + (mean_b - mean_a)^2 * n_a * n_b / n.
"""

# N values, K columns

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Moments:
    """Moments of K columns, each with its own count.

    Attributes:
        count: values seen [K], int64.
        mean: [K], 0 where nothing was seen.
        m2: sum of (value - mean)^2 [K].
        minimum: [K], +inf where nothing was seen.
        maximum: [K], -inf where nothing was seen.
    """

    count: NDArray[np.int64]
    mean: NDArray[np.float64]
    m2: NDArray[np.float64]
    minimum: NDArray[np.float64]
    maximum: NDArray[np.float64]

    @classmethod
    def empty(cls, columns: int) -> Self:
        return cls(
            np.zeros(columns, dtype=np.int64),
            np.zeros(columns),
            np.zeros(columns),
            np.full(columns, np.inf),
            np.full(columns, -np.inf),
        )

    @classmethod
    def of(cls, values: NDArray[np.float64], finite: NDArray[np.bool_]) -> Self:
        """Moments of the columns of `values` [N, K] where `finite` [N, K] is true.

        Fastest where the columns are contiguous in memory.
        """
        whole = bool(finite.all()) and len(values) > 0
        count = np.full(values.shape[1], len(values)) if whole else finite.sum(0)
        held = np.maximum(count, 1)
        kept = values if whole else np.where(finite, values, 0.0)
        mean = kept.sum(0) / held
        deviation = values - mean if whole else np.where(finite, values - mean, 0.0)
        correction = deviation.sum(0) / held  # the mean's own rounding, left in the deviations
        squares = np.square(deviation, out=deviation)
        return cls(
            count,
            mean + correction,
            squares.sum(0) - held * correction**2,
            values.min(0) if whole else np.where(finite, values, np.inf).min(0, initial=np.inf),
            values.max(0) if whole else np.where(finite, values, -np.inf).max(0, initial=-np.inf),
        )

    def merge(self, other: Self) -> Self:
        """Moments of both together; commutative, and associative up to rounding."""
        count = self.count + other.count
        held = np.maximum(count, 1)
        delta = other.mean - self.mean
        mean = (self.count * self.mean + other.count * other.mean) / held
        return type(self)(
            count,
            mean,
            self.m2 + other.m2 + delta**2 * (self.count * (other.count / held)),  # n_a * n_b may exceed an int64
            np.minimum(self.minimum, other.minimum),
            np.maximum(self.maximum, other.maximum),
        )

    @classmethod
    def merge_all(cls, parts: Sequence[Self]) -> Self:
        """Moments of many parts (at least one) together, in one step."""
        count, mean, m2, minimum, maximum = (np.stack([getattr(p, name) for p in parts]) for name in cls.__slots__)
        total = count.sum(0)
        held = np.maximum(total, 1)
        center = (count * mean).sum(0) / held
        spread = (m2 + count * np.square(mean - center)).sum(0)
        return cls(total, center, spread, minimum.min(0), maximum.max(0))

    @property
    def variance(self) -> NDArray[np.float64]:
        """Population variance [K]."""
        return np.maximum(self.m2, 0.0) / np.maximum(self.count, 1)

    @property
    def std(self) -> NDArray[np.float64]:
        return np.sqrt(self.variance)
