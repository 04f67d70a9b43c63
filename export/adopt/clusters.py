"""k-means over the baseline's embeddings: the clusters take the place of classes where a model has none.

Centroids and reference come from different texts: of the same ones, live texts would lie farther from their centroids
than the reference's did, and ordinary traffic would be called drift (docs/drift.md).
"""

# R texts, K clusters, D d_model

import io

import numpy as np
from numpy.typing import NDArray

from runtime.graph.batch import unit

Vectors = NDArray[np.float32]

FEWEST = 300  # texts: with fewer there is no verdict
ADVISED = 1500  # texts: with fewer, new topics are hardly noticed
SHARE = 1 / 3  # of the texts, for the centroids
TEXTS_PER_CLUSTER, LEAST_PER_CLUSTER = 100, 50  # of the reference, on average and at least
ROUNDS = 50


def split(count: int, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which texts make the centroids, and which the reference."""
    order = np.random.default_rng(seed).permutation(count)
    first = round(SHARE * count)
    return np.sort(order[:first]), np.sort(order[first:])


def fit_clusters(embedding_RD: Vectors, reference_RD: Vectors, seed: int = 0) -> Vectors:
    """Centroids [K, D] of length 1: one for a hundred texts of the reference, none of them with fewer than fifty."""
    vectors, reference = unit(embedding_RD), unit(reference_RD)
    number = max(1, min(round(len(reference) / TEXTS_PER_CLUSTER), len(vectors)))
    centroids_KD = spherical_k_means(vectors, number, seed)
    while len(centroids_KD) > 1:
        counts = np.bincount((reference @ centroids_KD.T).argmax(1), minlength=len(centroids_KD))
        if counts.min() >= LEAST_PER_CLUSTER:
            break
        centroids_KD = np.delete(centroids_KD, counts.argmin(), axis=0)
    return centroids_KD


def spherical_k_means(vectors_RD: Vectors, number: int, seed: int) -> Vectors:
    """Lloyd's algorithm by cosine (Dhillon & Modha 2001), begun as k-means++ does (Arthur & Vassilvitskii 2007)."""
    centroids_KD = spread_out(vectors_RD, number, np.random.default_rng(seed))
    nearest = None
    for _ in range(ROUNDS):
        cosine_RK = vectors_RD @ centroids_KD.T
        before, nearest = nearest, cosine_RK.argmax(1)
        if before is not None and (before == nearest).all():
            break
        sums = np.zeros_like(centroids_KD)
        np.add.at(sums, nearest, vectors_RD)
        empty = np.bincount(nearest, minlength=number) == 0
        sums[empty] = vectors_RD[cosine_RK.max(1).argsort()[: empty.sum()]]  # those that are farthest from theirs
        centroids_KD = unit(sums)
    return centroids_KD


def spread_out(vectors_RD: Vectors, number: int, rng: np.random.Generator) -> Vectors:
    """Texts to begin with, each drawn by its distance from those before."""
    chosen = [int(rng.integers(len(vectors_RD)))]
    distance_R = np.full(len(vectors_RD), np.inf)
    while len(chosen) < number:
        distance_R = np.minimum(distance_R, np.maximum(1 - vectors_RD @ vectors_RD[chosen[-1]], 0.0))
        total = distance_R.sum()
        share = distance_R / total if total > 0 else np.full(len(vectors_RD), 1 / len(vectors_RD))
        chosen.append(int(rng.choice(len(vectors_RD), p=share / share.sum())))
    return vectors_RD[chosen].copy()


def to_bytes(centroids_KD: Vectors) -> bytes:
    """As NumPy's own format has it."""
    content = io.BytesIO()
    np.save(content, centroids_KD.astype(np.float32), allow_pickle=False)
    return content.getvalue()
