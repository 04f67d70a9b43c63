"""What one run of a graph gives, row after row; cut apart and joined without copying more than needed."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from runtime.manifest import NormLayer

HASHED, SAMPLED = 65_536, 2048  # bytes of an array that are all hashed; numbers of a larger one

FeatureMoments = NDArray[np.float32] | list[NDArray[np.float32]]


@dataclass(slots=True)  # not frozen: that would cost each request a microsecond or two
class EncodedBatch:
    """What one run of the graph gives; nobody changes it.

    Attributes:
        logits: [R, C]; C is 0 for a model that gives embeddings alone.
        embedding: [R, D].
        norm_statistics: mean and 1/sigma of every valid token at every norm [N, 2L], row after row.
        feature_moments: mean and variance of every feature in this batch, one entry [2, D] per BatchNorm.
        lengths: tokens per row [R].
        token_lengths: characters of every valid token's piece of text [N]; 0 for float inputs.
        classes: the most probable class of every row [R], or the cluster that its embedding falls into.
        scores: its probability [R]; NaN where the row overflows the model.
        evidence: log-sum-exp of the logits [R]; of an embedding, how near its cluster is (runtime/graph/clusters.py).
        entropies: of the probabilities of all classes or clusters [R], in nats.
        computed_tokens: tokens that the run computed, padding among them; of a group of rows, those of the whole batch.
        stats_seconds: how long it took to hand in what the norms saw.
        outputs: of a network that reads tensors, what it gives under its own names [R, ...].
        identities: of the inputs [R]; equal inputs have the same.
    """

    logits: NDArray[np.float32]
    embedding: NDArray[np.float32]
    norm_statistics: NDArray[np.float32]
    feature_moments: FeatureMoments
    lengths: NDArray[np.int64]
    token_lengths: NDArray[np.float32]
    classes: list[int]
    scores: list[float]
    evidence: list[float]
    entropies: list[float]
    computed_tokens: int = 0
    stats_seconds: float = 0.0
    outputs: dict[str, NDArray[Any]] | None = None
    identities: Sequence[int] = ()

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
                    self.evidence[start:stop],
                    self.entropies[start:stop],
                    self.computed_tokens,
                    self.stats_seconds,
                    self.outputs and {name: values[start:stop] for name, values in self.outputs.items()},
                    self.identities[start:stop],
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
        [value for batch in batches for value in batch.evidence],
        [value for batch in batches for value in batch.entropies],
        sum(batch.computed_tokens for batch in batches),
        sum(batch.stats_seconds for batch in batches),
        batches[0].outputs and {name: joined(batches, name) for name in batches[0].outputs},
        [identity for batch in batches for identity in batch.identities],
    )


def joined(batches: Sequence[EncodedBatch], name: str) -> NDArray[Any]:
    """An output of several batches; of unlike shapes an array of objects, one for each row."""
    parts = [batch.outputs[name] for batch in batches if batch.outputs is not None]
    if len({part.shape[1:] for part in parts}) == 1:
        return np.concatenate(parts)
    rows = np.empty(sum(map(len, parts)), dtype=object)
    for place, row in enumerate(row for part in parts for row in part):  # numpy would try to make one array of all
        rows[place] = row
    return rows


def token_values(raw: NDArray[np.float32], layers: list[NormLayer]) -> NDArray[np.float64]:
    """Means and variances [N, 2L] from the graph's means and 1/sigma: variance = 1 / inv_std^2 - eps."""
    values = raw.astype(np.float64, order="F")  # column by column, as the sums over tokens will read them
    eps = np.array([layer.eps for layer in layers])
    inv_std = values[:, 1::2]
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        variance = 1 / np.square(inv_std) - eps
    values[:, 1::2] = np.maximum(variance, 0.0)
    return values


def row_means(values: NDArray[np.float64], lengths: NDArray[np.int64]) -> NDArray[np.float64]:
    """Average of every row's tokens [R, 2L]; tokens lie row after row."""
    starts = np.cumsum(lengths) - lengths
    return np.add.reduceat(values, starts, axis=0) / lengths[:, None]


def softmax(scores: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Class probabilities [R, C] in float64, of logits or of unnormalized log-probabilities."""
    exponents: NDArray[np.float64] = np.exp(scores.astype(np.float64) - scores.max(1, keepdims=True))
    exponents /= exponents.sum(1, keepdims=True)
    return exponents


class Best(NamedTuple):
    """What is noted of every row's probabilities [R]; its fields are those of `EncodedBatch`."""

    classes: list[int]
    scores: list[float]
    evidence: list[float]
    entropies: list[float]


def best_classes(logits: NDArray[np.float32]) -> Best:
    """The most probable class of every row of `logits` [R, C], its probability, the row's log-sum-exp and entropy.

    A row that overflows has a probability of NaN.
    """
    top = logits.max(1)
    with np.errstate(invalid="ignore"):
        below = logits.astype(np.float64) - top[:, None]
        exponents = np.exp(below)
        sums = exponents.sum(1)  # the best one's part is 1
        logs = np.log(sums)
        entropies = logs - np.vecdot(exponents, below) / sums
    return Best(logits.argmax(1).tolist(), (1 / sums).tolist(), (top + logs).tolist(), entropies.tolist())


def identity(*arrays: NDArray[Any]) -> int:
    """64 bits of an input, the same in every process: so repeats are counted, while nothing of the input is kept.

    Of large arrays, some of the numbers stand for all: hashing an image would cost a hundredth of running it.
    """
    hashed = blake2b(digest_size=8)
    for array in arrays:
        large = array.nbytes > HASHED
        hashed.update((array.reshape(-1)[:: array.size // SAMPLED] if large else array).tobytes())
    return int.from_bytes(hashed.digest(), "big")


def unit(embedding_RD: NDArray[np.float32]) -> NDArray[np.float32]:
    """The rows at length 1, so that their dot products are cosines; a row of zeros stays as it is."""
    lengths = np.linalg.norm(embedding_RD.astype(np.float64), axis=1, keepdims=True)
    return (embedding_RD / np.where(lengths, lengths, 1.0)).astype(np.float32)
