"""Deep statistics, layer by layer: outlier and dead features, room for int8, largest activations, updates."""

# L norm layers, D d_model

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.drift.detector import MIN_REQUESTS
from runtime.drift.numbers import Floats
from runtime.manifest import Manifest
from runtime.statistics.deep import DeepState
from runtime.statistics.state import NormState
from service.schemas.deep import (
    Activation,
    DeepLayer,
    DeepStatistics,
    FeatureMoments,
    FeatureShift,
    FeatureSize,
    Spread,
    Update,
)

TOP = 5  # features to name
DEAD = 1e-3  # of the median feature's standard deviation
INT8 = 127


@dataclass(frozen=True, slots=True)
class LayerFeatures:
    """One layer's part of a deep state: of its output `mean`, `std` and `peak` magnitude [D], of its input `largest`
    [2, D], first tokens and others."""

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    peak: NDArray[np.float64]
    largest: NDArray[np.float64]

    @classmethod
    def of(cls, state: DeepState, manifest: Manifest, index: int) -> "LayerFeatures":
        start = sum(layer.d_model for layer in manifest.layers[:index])
        own = slice(start, start + manifest.layers[index].d_model)
        outputs = state.outputs
        peak = np.maximum(np.abs(outputs.minimum[own]), np.abs(outputs.maximum[own]))
        return cls(outputs.mean[own], outputs.std[own], peak, state.largest[:, own])


def deep_statistics(
    manifest: Manifest, live: DeepState, baseline: DeepState, index: int, every_feature: bool
) -> DeepStatistics:
    """Layer number `index`, live beside the baseline."""
    enough = live.requests >= MIN_REQUESTS
    statistics = DeepStatistics(
        requests=live.requests,
        tokens=live.tokens,
        live=deep_layer(manifest, live, index) if enough else None,
        baseline=deep_layer(manifest, baseline, index),
        shifted=feature_shifts(manifest, live, baseline, index),
    )
    if not every_feature or not enough:
        return statistics
    features = LayerFeatures.of(live, manifest, index)
    moments = FeatureMoments(mean=features.mean.tolist(), variance=np.square(features.std).tolist())
    return statistics.model_copy(update={"features": moments})


def deep_layer(manifest: Manifest, state: DeepState, index: int) -> DeepLayer:
    features = LayerFeatures.of(state, manifest, index)
    middle, peak = float(np.median(features.std)), float(features.peak.max())
    return DeepLayer(
        outliers=outliers(features),
        dead=int((features.std < DEAD * middle).sum()),
        int8_levels=INT8 * middle / peak if 0 < peak < np.inf else None,
        largest=largest_activations(features),
        update=update(manifest, state, index),
    )


def outliers(features: LayerFeatures) -> list[FeatureSize]:
    """The largest features by root mean square."""
    size = np.hypot(features.mean, features.std)
    typical = float(np.median(size)) or 1.0
    return [
        FeatureSize(feature=i, mean=features.mean[i], std=features.std[i], ratio=size[i] / typical)
        for i in np.argsort(-size, kind="stable")[:TOP].tolist()
    ]


def largest_activations(features: LayerFeatures) -> list[Activation]:
    magnitude = features.largest.max(0)
    return [
        Activation(
            feature=i, value=magnitude[i], position="first" if features.largest[0, i] == magnitude[i] else "other"
        )
        for i in np.argsort(-magnitude, kind="stable")[:TOP].tolist()
    ]


def update(manifest: Manifest, state: DeepState, index: int) -> Update | None:
    layers = manifest.layers
    if not layers[index].add:
        return None
    ratio = 2 * sum(layer.add for layer in layers[:index])
    mean, std = state.adds.mean, state.adds.std
    return Update(
        ratio=Spread(mean=mean[ratio], std=std[ratio]), cosine=Spread(mean=mean[ratio + 1], std=std[ratio + 1])
    )


def feature_shifts(manifest: Manifest, live: DeepState, baseline: DeepState, index: int) -> list[FeatureShift]:
    """The features that moved most; none where too few requests were looked at."""
    if live.requests < MIN_REQUESTS or baseline.requests < MIN_REQUESTS:
        return []
    mine, theirs = (LayerFeatures.of(state, manifest, index) for state in (live, baseline))
    return furthest(mine.mean, theirs.mean, theirs.std)


def batch_norm_shifts(live: NormState, baseline: NormState, index: int) -> list[FeatureShift]:
    """The features of what enters a BatchNorm that moved most; none of another norm, or of too few requests."""
    mine, theirs = live.features.get(index), baseline.features.get(index)
    if mine is None or theirs is None or live.requests < MIN_REQUESTS:
        return []
    return furthest(mine.mean, theirs.mean, theirs.std)


def furthest(live: Floats, baseline: Floats, std: Floats) -> list[FeatureShift]:
    shift = (live - baseline) / np.maximum(std, 1e-12)
    return [
        FeatureShift(feature=i, live=live[i], baseline=baseline[i], shift=shift[i])
        for i in np.argsort(-np.abs(shift), kind="stable")[:TOP].tolist()
    ]
