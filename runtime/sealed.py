"""States of time buckets that are over: small, and merged many at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.histogram import BUCKETS
from runtime.manifest import NormLayer
from runtime.moments import Moments
from runtime.statistics import NormState, Traffic


@dataclass(frozen=True, slots=True)
class SealedState:
    """A state whose bucket is over: its histograms, nearly empty, are kept by their occupied places."""

    requests: int
    tokens: int
    moments: Moments
    places: NDArray[np.int64]
    counts: NDArray[np.int64]
    features: dict[int, Moments]
    traffic: Traffic

    @classmethod
    def seal(cls, state: NormState) -> "SealedState":
        flat = state.histograms.ravel()
        places = np.flatnonzero(flat)
        counts = flat[places]
        return cls(state.requests, state.tokens, state.moments, places, counts, state.features, state.traffic)

    def unseal(self) -> NormState:
        histograms = np.zeros((len(self.moments.count), BUCKETS), dtype=np.int64)
        histograms.ravel()[self.places] = self.counts
        return NormState(self.requests, self.tokens, self.moments, histograms, self.features, self.traffic)


def merge_sealed(parts: Sequence[SealedState], layers: list[NormLayer]) -> NormState:
    """All parts together."""
    empty = NormState.empty(layers)
    if not parts:
        return empty
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
