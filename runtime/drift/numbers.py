"""The numbers of a request that drift is judged by, and how unlike the baseline it is."""

# R requests, K numbers of each, L norm layers, Q knots

from dataclasses import dataclass
from math import gamma
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from runtime.graph.batch import EncodedBatch, row_means

Floats = NDArray[np.float64]

TYPICAL = 3.5  # -ln p of what a request of a new class typically is (docs/drift.md)
NOT_FITTED = (1.0, 0.0)  # Platt's slope and intercept where no labels were known
LEAST_PARTS = 10  # of traffic, from which how far they lie apart is taken
UNSURE = 1e-9  # a probability's least distance from 0 and 1, where its logit is taken


def request_features(batch: EncodedBatch) -> tuple[Floats, NDArray[np.int64]]:
    """What the graph says of every request [R, 2L + 5], and its predicted class [R].

    For the input the logarithm of its tokens and their average length, for each norm the average over its tokens of
    their mean and of their 1/variance, for the output -log of the top probability, log-sum-exp, and the entropy.
    """
    tokens = batch.norm_statistics.astype(np.float64)
    tokens[:, 1::2] **= 2
    token_length = row_means(batch.token_lengths.astype(np.float64)[:, None], batch.lengths)
    layers = row_means(tokens, batch.lengths)
    output = np.column_stack([-np.log(batch.scores), batch.evidence, batch.entropies])
    features = np.column_stack([np.log(batch.lengths), token_length, layers, output])
    return features, np.array(batch.classes, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Unlikeness:
    """How unlike the baseline a request is, by how unsure the model is of it.

    Entropy and negative log-sum-exp, standardized and added, are a single number; p is the share of the baseline's
    requests that have at least as large a one, and (-ln p)^1.5 the unlikeness. So the rarest say most, as in Fisher's
    way to combine tests, and more so.

    Attributes:
        center, scale: of entropy and of negative log-sum-exp, in the baseline [2].
        knots: of the sum, increasing [Q].
        values: unlikeness at the knots [Q].
        platt: slope and intercept from the logit of the top probability to that of being right (Platt 1999).
        exponent: of -ln p; 2 in older baselines.
    """

    center: Floats
    scale: Floats
    knots: Floats
    values: Floats
    platt: Floats
    exponent: float = 2.0

    @property
    def usual(self) -> float:
        """The average unlikeness of requests like the baseline."""
        return gamma(1 + self.exponent)

    def share(self, excess: float) -> float:
        """About the share of unlike requests that raises a window's average unlikeness by so much."""
        per_request: float = TYPICAL**self.exponent - self.usual
        return min(max(float(excess) / per_request, 0.0), 1.0)

    def sums(self, features: Floats) -> Floats:
        """Entropy and negative log-sum-exp together [R], of `request_features`."""
        sums: Floats = ((features[:, -1:-3:-1] * (1, -1) - self.center) / self.scale).sum(1)
        return sums

    def of(self, features: Floats) -> Floats:
        """The unlikeness of every request [R]."""
        unlikeness: Floats = np.interp(self.sums(features), self.knots, self.values)
        return unlikeness

    def rank(self, features: Floats) -> Floats:
        """The share of the baseline's requests that are at least as unlike [R]: `of` is (-ln p)^exponent."""
        ranks: Floats = np.exp(-(self.of(features) ** (1 / self.exponent)))
        return ranks

    @property
    def knows_right(self) -> bool:
        """Whether `platt` was fitted on labels: without any it is what leaves probabilities as they are."""
        return tuple(self.platt) != NOT_FITTED

    def accuracy(self, features: Floats) -> Floats:
        """The probability that each request's class is right [R], if it is of a class that the model knows."""
        top = np.clip(np.exp(-features[:, -3]), UNSURE, 1 - UNSURE)
        slope, intercept = self.platt
        right: Floats = 1 / (1 + np.exp(-(slope * np.log(top / (1 - top)) + intercept)))
        return right

    def to_dict(self) -> dict[str, Any]:
        return {name: np.float32(getattr(self, name)).astype(float).round(9).tolist() for name in self.__slots__}

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Self:
        arrays = {name: np.array(raw[name], dtype=np.float64) for name in cls.__slots__ if name != "exponent"}
        return cls(**arrays, exponent=raw.get("exponent", 2.0))


def with_unlikeness(features: Floats, unlikeness: Unlikeness) -> Floats:
    """The numbers of requests [R, K], not clipped."""
    return np.column_stack([features[:, :-1], unlikeness.of(features)])


def excess_of_parts(sizes: Floats, averages: Floats, variance: Floats) -> tuple[Floats, float]:
    """How much further parts of some traffic lie apart than single requests make them (batch means: Conway 1963).

    Args:
        sizes: requests of each part [B], repeats counted as far as they tell something.
        averages: of their numbers [B, K].
        variance: of the numbers of single requests [K].

    Returns:
        The variance of a part's average beyond that, times its requests [K], and how many these are; 0 where the parts
        are too few to tell.
    """
    if len(sizes) < LEAST_PARTS:
        return np.zeros(1), 1.0
    squares = np.square(averages - sizes @ averages / sizes.sum())
    excess: Floats = np.maximum(sizes @ squares / (len(sizes) - 1) - variance, 0.0)
    return excess, float(sizes.mean())
