"""The cluster that an embedding falls into: what drift is conditioned on where there are no classes.

Clusters are k-means centroids of a part of the baseline's embeddings (export/adopt/clusters.py). docs/drift.md
explains and measures it.
"""

# R rows, K clusters, D d_model

from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from runtime.artifact import Artifact
from runtime.errors import ArtifactError
from runtime.graph.batch import Best, best_classes, unit
from runtime.manifest import CLUSTERS

SHARPNESS = np.float32(20.0)  # cosines times this are taken for logits
NEAREST = 1.001  # a little more than the largest cosine, so that the logarithm is finite


class Clusters:
    """Centroids of length 1 [K, D]."""

    def __init__(self, centroids: NDArray[np.float32]) -> None:
        self.centroids = centroids

    def assign(self, embedding_RD: NDArray[np.float32]) -> Best:
        """The nearest cluster of every row, its probability, how near it is: -log(1.001 - cosine), and the entropy."""
        with np.errstate(invalid="ignore"):
            cosine_RK = unit(embedding_RD) @ self.centroids.T
            nearness = -np.log(NEAREST - cosine_RK.max(1))
        return best_classes(SHARPNESS * cosine_RK)._replace(evidence=nearness.tolist())


class OneCluster(Clusters):
    """All that there is, where the baseline is too small for more."""

    def __init__(self) -> None:
        super().__init__(np.empty((1, 0), dtype=np.float32))

    def assign(self, embedding_RD: NDArray[np.float32]) -> Best:
        scores = np.where(np.isfinite(embedding_RD).all(1), 1.0, np.nan)
        zeros = [0.0] * len(embedding_RD)
        return Best([0] * len(embedding_RD), scores.tolist(), zeros, zeros)


def read_clusters(artifact: Artifact) -> Clusters:
    """The artifact's clusters.

    Raises:
        ArtifactError: they cannot be used.
    """
    expected = (artifact.manifest.clusters, artifact.manifest.d_model)
    if expected[0] is None:
        return OneCluster()
    try:
        centroids = np.load(BytesIO(artifact.files[CLUSTERS]), allow_pickle=False)
        if not isinstance(centroids, np.ndarray):
            raise ValueError("an archive")
    except Exception as error:  # whatever numpy and zipfile raise
        raise ArtifactError(f"{artifact.path / CLUSTERS} is no array of centroids: adopt the model again.") from error
    if centroids.shape != expected or centroids.dtype != np.float32 or not np.isfinite(centroids).all():
        raise ArtifactError(
            f"{artifact.path / CLUSTERS} has {centroids.dtype} {centroids.shape}, expected finite float32 {expected}: "
            "adopt the model again."
        )
    return Clusters(centroids)
