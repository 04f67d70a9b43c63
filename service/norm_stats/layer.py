"""One layer beside its baseline: its numbers, and its distributions over tokens in bins that can be drawn."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.drift.baseline import Baseline
from runtime.drift.detector import MIN_REQUESTS, Judgement
from runtime.manifest import Manifest
from runtime.statistics.histogram import bucket_values, quantile
from runtime.statistics.recorder import Recorded
from runtime.statistics.state import NormState
from service.norm_stats.deep import batch_norm_shifts, deep_statistics
from service.norm_stats.ends import layer_drift
from service.schemas.deep import FeatureMoments
from service.schemas.norm_stats import Distribution, Distributions, LayerState, LayerStatistics, Summary

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


def layer_statistics(
    manifest: Manifest,
    baseline: Baseline,
    recorded: Recorded,
    judgement: Judgement | None,
    index: int,
    every_feature: bool = False,
) -> LayerStatistics:
    """Layer number `index`, live beside the baseline."""
    layer, state = manifest.layers[index], recorded.state
    more: dict[str, Any] = {}
    if layer.running_mean is not None and layer.running_variance is not None:
        more["running"] = FeatureMoments(mean=layer.running_mean, variance=layer.running_variance)
    if layer.kind == "batch_norm":
        more["shifted"] = batch_norm_shifts(state, baseline.state, index)
    if every_feature:
        more["distributions"] = Distributions(
            mean=distribution(state, baseline.state, 2 * index),
            variance=distribution(state, baseline.state, 2 * index + 1),
        )
    if baseline.deep is not None:
        more["deep"] = deep_statistics(manifest, recorded.deep, baseline.deep, index, every_feature)
    return LayerStatistics(
        name=layer.name,
        kind=layer.kind,
        placement=layer.placement,
        unit=layer.unit,
        d_model=layer.d_model,
        eps=layer.eps,
        live=layer_state(manifest, state, index),
        baseline=layer_state(manifest, baseline.state, index),
        drift=layer_drift(baseline, judgement, state, index),
        **more,
    )


def layer_state(manifest: Manifest, state: NormState, index: int) -> LayerState:
    description = manifest.layers[index]
    layer = LayerState(
        tokens=description.seen(state.tokens),
        mean=summary(state, 2 * index),
        variance=summary(state, 2 * index + 1),
        residual_norm=state.residual_norm(index, description.d_model),
        saturated=state.saturated(index, description.eps),
        not_finite=description.seen(state.not_finite(index)),
    )
    moments = state.features.get(index)
    if moments is None or state.requests < MIN_REQUESTS:
        return layer
    features = FeatureMoments(mean=moments.mean.tolist(), variance=moments.variance.tolist())
    return layer.model_copy(update={"features": features})


def summary(state: NormState, column: int) -> Summary | None:
    """A column's summary. Below MIN_REQUESTS it has no extremes: they could tell of a single request."""
    if (numbers := state.summary(column)) is None:
        return None
    withheld = dict.fromkeys(("min", "max", "p01", "p99") if state.requests < MIN_REQUESTS else ())
    return Summary(**numbers | withheld)
