"""Normalization statistics: what flowed into every norm, kept as sufficient statistics that merge.

Column 2l is the mean and column 2l + 1 the variance of the tokens that entered layer l. docs/statistics.md explains
each number and how to read it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from runtime.manifest import NormLayer
from runtime.statistics.histogram import BUCKETS, ZERO, bucket_values, count_buckets, quantile
from runtime.statistics.moments import Moments
from runtime.statistics.traffic import Traffic


@dataclass(frozen=True, slots=True)
class NormState:
    """Sufficient statistics of some traffic; merging states in any order equals one pass over all of it.

    Attributes:
        requests: inputs answered; a request of three texts counts three.
        tokens: valid tokens that entered every norm.
        moments: of the 2L columns; tokens whose statistic is NaN, infinite or beyond its limit are left out of it.
        histograms: [2L, B].
        features: BatchNorm layers only, by layer index: moments of every feature [D].
        traffic: of the same requests; nothing where no reference judges them.
    """

    requests: int
    tokens: int
    moments: Moments
    histograms: NDArray[np.int64]
    features: dict[int, Moments] = field(default_factory=dict)
    traffic: Traffic = field(default_factory=Traffic.nothing)

    @classmethod
    def empty(cls, layers: list[NormLayer]) -> Self:
        columns = 2 * len(layers)
        features = {i: Moments.empty(layer.d_model) for i, layer in enumerate(layers) if layer.kind == "batch_norm"}
        return cls(0, 0, Moments.empty(columns), np.zeros((columns, BUCKETS), dtype=np.int64), features)

    @classmethod
    def of(
        cls,
        requests: int,
        values: NDArray[np.float64],
        features: dict[int, Moments] | None = None,
        traffic: Traffic | None = None,
        limits: NDArray[np.float64] | None = None,
    ) -> Self:
        """The state of tokens whose means and variances are `values` [N, 2L].

        Args:
            limits: magnitudes beyond which a value is left out as if it were infinite [2L].
        """
        finite = np.isfinite(values) if limits is None else np.abs(values) <= limits  # NaN is not
        whole = bool(finite.all())
        histograms = count_buckets((values if whole else np.where(finite, values, 0.0)).astype(np.float32))
        if not whole:
            histograms[:, ZERO] -= (~finite).sum(0)  # the zeros put in the place of what is left out
        moments = Moments.of(values, finite)
        return cls(requests, len(values), moments, histograms, features or {}, traffic or Traffic.nothing())

    def merge(self, other: Self) -> Self:
        features = dict(self.features)
        for layer, moments in other.features.items():
            features[layer] = features[layer].merge(moments) if layer in features else moments
        return type(self)(
            self.requests + other.requests,
            self.tokens + other.tokens,
            self.moments.merge(other.moments),
            self.histograms + other.histograms,
            features,
            self.traffic.merge(other.traffic),
        )

    def without_histograms(self) -> Self:
        """The same with histograms of no buckets: those of many layers take megabytes, which moments need not."""
        return replace(self, histograms=self.histograms[:, :0])

    def residual_norm(self, layer: int, d_model: int) -> float | None:
        """Root mean square length of the vectors that entered a layer: |s|^2 = d_model * (variance + mean^2)."""
        mean, variance = 2 * layer, 2 * layer + 1
        if not self.moments.count[mean]:
            return None
        square = self.moments.variance[mean] + self.moments.mean[mean] ** 2
        return float(np.sqrt(d_model * (self.moments.mean[variance] + square)))

    def not_finite(self, layer: int) -> int:
        """Tokens whose mean or variance was NaN, infinite or beyond its limit where they entered a layer."""
        return self.tokens - int(self.moments.count[2 * layer : 2 * layer + 2].min())

    def saturated(self, layer: int, eps: float) -> float | None:
        """Share of tokens whose variance was at most eps, so that eps, not the token, decided the norm's output.

        None where nothing was seen, or where only the histogram could tell and eps is below its finest bucket.
        """
        column, values = 2 * layer + 1, bucket_values()
        counts = self.histograms[column]
        total = counts.sum()
        if not total:
            return None
        if self.moments.minimum[column] > eps or self.moments.maximum[column] <= eps:  # these are exact
            return float(self.moments.maximum[column] <= eps)
        return float(counts[values <= eps].sum() / total) if eps >= values[values > 0].min() else None

    def summary(self, column: int) -> dict[str, float] | None:
        """Mean, std, min, max and quantiles of one column; None where nothing was seen.

        The quantiles come from the histogram (relative error at most 0.8 %), everything else is exact.
        """
        if not self.moments.count[column]:
            return None
        low, high = float(self.moments.minimum[column]), float(self.moments.maximum[column])
        quantiles = {
            name: min(max(quantile(self.histograms[column], q), low), high)
            for name, q in (("p01", 0.01), ("p50", 0.50), ("p99", 0.99))
        }
        mean, std = float(self.moments.mean[column]), float(self.moments.std[column])
        return {"mean": mean, "std": std, "min": low, "max": high, **quantiles}


@dataclass(frozen=True, slots=True)
class SparseState:
    """A state whose bucket is over: its histograms, nearly empty, are kept by their occupied places."""

    requests: int
    tokens: int
    moments: Moments
    places: NDArray[np.int64]
    counts: NDArray[np.int64]
    features: dict[int, Moments]
    traffic: Traffic

    @classmethod
    def compress(cls, state: NormState) -> "SparseState":
        flat = state.histograms.ravel()
        places = np.flatnonzero(flat)
        counts = flat[places]
        return cls(state.requests, state.tokens, state.moments, places, counts, state.features, state.traffic)

    def expand(self) -> NormState:
        histograms = np.zeros((len(self.moments.count), BUCKETS), dtype=np.int64)
        histograms.ravel()[self.places] = self.counts
        return NormState(self.requests, self.tokens, self.moments, histograms, self.features, self.traffic)


def merge_sparse(parts: Sequence[SparseState], layers: list[NormLayer], histograms: bool = True) -> NormState:
    """All parts together, with or without their histograms."""
    empty = NormState.empty(layers)
    empty = empty if histograms else empty.without_histograms()
    if not parts:
        return empty
    if histograms:
        for part in parts:
            empty.histograms.ravel()[part.places] += part.counts
    features = {
        index: Moments.merge_all([moments, *(part.features[index] for part in parts if index in part.features)])
        for index, moments in empty.features.items()
    }
    return NormState(
        sum(part.requests for part in parts),
        sum(part.tokens for part in parts),
        Moments.merge_all([part.moments for part in parts]),
        empty.histograms,
        features,
        Traffic.merge_all([part.traffic for part in parts]),
    )
