"""The shape of a layer's distributions over tokens, live beside the baseline, in bins that can be drawn."""

import numpy as np
from numpy.typing import NDArray

from runtime.drift import MIN_REQUESTS
from runtime.histogram import bucket_values, quantile
from runtime.statistics import NormState
from service.statistics_schemas import Distribution

BINS = 40
TAIL = 0.002  # share of tokens left out at each end, which would stretch the picture


def distribution(live: NormState, baseline: NormState, column: int) -> Distribution:
    """Share of tokens per bin of one column; live ones are withheld below MIN_REQUESTS requests."""
    usual = baseline.histograms[column]
    seen = live.histograms[column] if live.requests >= MIN_REQUESTS else None
    both = [usual] if seen is None else [usual, seen]
    low = min(quantile(counts, TAIL) for counts in both)
    high = max(quantile(counts, 1 - TAIL) for counts in both)
    edges = np.linspace(low, high if high > low else low + 1e-6, BINS + 1)
    return Distribution(
        edges=edges.tolist(),
        live=None if seen is None else shares(seen, edges),
        baseline=shares(usual, edges),
    )


def shares(counts: NDArray[np.int64], edges: NDArray[np.float64]) -> list[float]:
    """Share of the counted values between each pair of edges, every bucket's being spread evenly over it."""
    values = bucket_values()
    bounds = (values[1:] + values[:-1]) / 2
    below = np.interp(edges, bounds, np.cumsum(counts)[:-1] / counts.sum())
    return [round(float(share), 6) for share in np.diff(below)]
