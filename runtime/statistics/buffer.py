"""Batches on their way into the statistics, copied end to end until there are enough to be worth folding.

Holding the batches themselves would keep many small arrays alive; joining and freeing them cost more than all the
arithmetic.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from runtime.graph.batch import EncodedBatch
from runtime.statistics.moments import Moments

# Folded at once, so many cost a tenth of folding every batch, and hold up the next one for less than a millisecond.
TOKENS = 4096


FeatureLimits = Mapping[int, NDArray[np.float64]]
NO_LIMITS: FeatureLimits = {}


class TokenBuffer:
    """What the norms saw of requests that are not folded yet.

    Args:
        columns: of the norm statistics, 2L.
        batch_norms: indices of the BatchNorm layers, in the order of a batch's feature moments.
        limits: magnitudes beyond which a feature's mean leaves a batch out, by layer index; inf where there is none.
    """

    def __init__(self, columns: int, batch_norms: Sequence[int], limits: FeatureLimits = NO_LIMITS) -> None:
        self.columns, self.batch_norms, self.limits, self.capacity = columns, batch_norms, limits, TOKENS
        self._clear()

    def _clear(self) -> None:
        self.tokens = 0
        self._statistics = np.empty((self.capacity, self.columns), dtype=np.float32)
        self._token_lengths = np.empty(self.capacity, dtype=np.float32)
        self._lengths: list[int] = []
        self._classes: list[int] = []
        self._scores: list[float] = []
        self._evidence: list[float] = []
        self._entropies: list[float] = []
        self._identities: list[int] = []
        self._features: dict[int, Moments] = {}

    def add(self, batch: EncodedBatch) -> bool:
        """Copies what is needed of a batch; False, and nothing happened, where there is no room for it."""
        end = self.tokens + len(batch.norm_statistics)
        if end > self.capacity:
            return False
        self._statistics[self.tokens : end] = batch.norm_statistics
        self._token_lengths[self.tokens : end] = batch.token_lengths
        self._lengths += batch.lengths.tolist()
        self._classes += batch.classes
        self._scores += batch.scores
        self._evidence += batch.evidence
        self._entropies += batch.entropies
        self._identities += batch.identities
        if self.batch_norms:
            add_features(self._features, batch, self.batch_norms, self.limits)
        self.tokens = end
        return True

    def take(self) -> tuple[EncodedBatch, dict[int, Moments]]:
        """All of it as one batch without logits and embeddings, and the BatchNorms' features; then nothing is held."""
        nothing = np.empty((0, 0), dtype=np.float32)
        batch = EncodedBatch(
            logits=nothing,
            embedding=nothing,
            norm_statistics=self._statistics[: self.tokens],
            feature_moments=nothing,
            lengths=np.array(self._lengths, dtype=np.int64),
            token_lengths=self._token_lengths[: self.tokens],
            classes=self._classes,
            scores=self._scores,
            evidence=self._evidence,
            entropies=self._entropies,
            identities=self._identities,
        )
        features = self._features
        self._clear()
        return batch, features


def add_features(
    features: dict[int, Moments], batch: EncodedBatch, batch_norms: Sequence[int], limits: FeatureLimits = NO_LIMITS
) -> None:
    """Merges a batch's moments of every feature into those by layer index."""
    for index, moments in zip(batch_norms, batch.feature_moments, strict=True):
        seen = feature_state(moments, len(batch.norm_statistics), limits.get(index))
        features[index] = features[index].merge(seen) if index in features else seen


def feature_state(moments: NDArray[np.float32], tokens: int, limits: NDArray[np.float64] | None = None) -> Moments:
    """The mean and population variance [2, D] that a BatchNorm saw in one batch, as mergeable moments.

    A batch does not say the extremes of its tokens: minimum and maximum are those of the batch means. A feature that
    was NaN or infinite at any token, or whose mean or deviation is beyond its limit, leaves this batch out.
    """
    finite = np.isfinite(moments).all(0)
    if limits is not None:
        finite &= (np.abs(moments[0]) <= limits) & (moments[1] <= limits**2)
    mean, variance = np.where(finite, moments, 0.0).astype(np.float64)
    return Moments(
        np.where(finite, tokens, 0),
        mean,
        variance * tokens,
        np.where(finite, mean, np.inf),
        np.where(finite, mean, -np.inf),
    )
