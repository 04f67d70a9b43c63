"""What one run of a graph gives, row after row; cut apart and joined without copying more than needed."""

# R rows, N valid tokens, C classes, D d_model, L norm layers

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(slots=True)  # not frozen: that would cost each request a microsecond or two
class EncodedBatch:
    """What one run of the graph gives; nobody changes it.

    Attributes:
        logits: [R, C].
        embedding: [R, D].
        norm_statistics: mean and 1/sigma of every valid token at every norm [N, 2L], row after row.
        feature_moments: mean and variance of every feature in this batch, one entry per BatchNorm [layers, 2, D].
        lengths: tokens per row [R].
        token_lengths: characters of every valid token's piece of text [N]; 0 for float inputs.
        classes: the most probable class of every row [R].
        scores: its probability [R]; NaN where the row overflows the model.
        tops: its logit [R].
        computed_tokens: tokens that the run computed, padding among them; of a group of rows, those of the whole batch.
        stats_seconds: how long it took to hand in what the norms saw.
    """

    logits: NDArray[np.float32]
    embedding: NDArray[np.float32]
    norm_statistics: NDArray[np.float32]
    feature_moments: NDArray[np.float32]
    lengths: NDArray[np.int64]
    token_lengths: NDArray[np.float32]
    classes: list[int]
    scores: list[float]
    tops: list[float]
    computed_tokens: int = 0
    stats_seconds: float = 0.0

    def split(self, counts: Sequence[int]) -> list["EncodedBatch"]:
        """The answers of consecutive groups of `counts` rows; each keeps the feature moments of the whole batch."""
        if len(counts) == 1:
            return [self]
        ends = np.cumsum(self.lengths).tolist()
        groups = []
        start = first = 0
        for count in counts:
            stop = start + count
            last = ends[stop - 1]
            groups.append(
                EncodedBatch(
                    self.logits[start:stop],
                    self.embedding[start:stop],
                    self.norm_statistics[first:last],
                    self.feature_moments,
                    self.lengths[start:stop],
                    self.token_lengths[first:last],
                    self.classes[start:stop],
                    self.scores[start:stop],
                    self.tops[start:stop],
                    self.computed_tokens,
                    self.stats_seconds,
                )
            )
            start, first = stop, last
        return groups


def join(batches: Sequence[EncodedBatch]) -> EncodedBatch:
    """Several batches as one, in order; feature moments, which belong to their batch, are left out."""
    return EncodedBatch(
        np.concatenate([batch.logits for batch in batches]),
        np.concatenate([batch.embedding for batch in batches]),
        np.concatenate([batch.norm_statistics for batch in batches]),
        batches[0].feature_moments[:0],
        np.concatenate([batch.lengths for batch in batches]),
        np.concatenate([batch.token_lengths for batch in batches]),
        [best for batch in batches for best in batch.classes],
        [score for batch in batches for score in batch.scores],
        [top for batch in batches for top in batch.tops],
        sum(batch.computed_tokens for batch in batches),
        sum(batch.stats_seconds for batch in batches),
    )
