import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from runtime.artifact import Artifact
from runtime.errors import ArtifactError
from runtime.graph.clusters import NEAREST, SHARPNESS, Clusters, OneCluster, read_clusters
from runtime.graph.encoder import Encoder
from runtime.manifest import CLUSTERS


@pytest.fixture
def clusters() -> Clusters:
    vectors = np.random.default_rng(0).normal(size=(5, 16))
    return Clusters((vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32))


def embeddings(rows: int = 200) -> np.ndarray:
    return (np.random.default_rng(1).normal(size=(rows, 16)) * 7).astype(np.float32)


def saved(array: Any, **options: Any) -> bytes:
    content = io.BytesIO()
    np.save(content, array, **options)
    return content.getvalue()


def with_clusters(artifact: Artifact, count: int | None, content: bytes | None) -> Artifact:
    """`artifact` as if it had `count` clusters, with `content` as their file."""
    files = {name: held for name, held in artifact.files.items() if name != CLUSTERS}
    manifest = artifact.manifest.model_copy(update={"clusters": count})
    return replace(artifact, manifest=manifest, files=files if content is None else files | {CLUSTERS: content})


def test_the_nearest_cluster_is_that_of_float64(clusters: Clusters):
    vectors = embeddings().astype(np.float64)
    cosine = vectors @ clusters.centroids.astype(np.float64).T / np.linalg.norm(vectors, axis=1, keepdims=True)
    likely = np.exp(SHARPNESS * cosine) / np.exp(SHARPNESS * cosine).sum(1, keepdims=True)
    classes, scores, nearness, entropies = clusters.assign(embeddings())
    assert classes == cosine.argmax(1).tolist()
    np.testing.assert_allclose(scores, likely.max(1), rtol=1e-4)
    np.testing.assert_allclose(nearness, -np.log(NEAREST - cosine.max(1)), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(entropies, -(likely * np.log(likely)).sum(1), rtol=1e-3, atol=1e-5)


def test_length_does_not_matter(clusters: Clusters):
    (near, scores, *_), (far, others, *_) = clusters.assign(embeddings()), clusters.assign(embeddings() * 1000)
    assert near == far
    np.testing.assert_allclose(scores, others, rtol=1e-5)


def test_rows_are_independent(clusters: Clusters):
    together = clusters.assign(embeddings(9))
    for row in range(9):
        alone = clusters.assign(embeddings(9)[row : row + 1])
        assert alone[0] == together[0][row : row + 1]
        np.testing.assert_allclose(alone[1] + alone[2], [together[1][row], together[2][row]], rtol=1e-3)


def test_a_vector_on_its_centroid_is_as_near_as_can_be(clusters: Clusters):
    classes, scores, nearness, _ = clusters.assign(clusters.centroids)
    assert classes == list(range(5))
    assert all(0 < score <= 1 for score in scores)
    np.testing.assert_allclose(nearness, -np.log(1e-3), rtol=1e-3)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("one", [False, True])
def test_a_vector_that_is_not_finite_has_no_score(clusters: Clusters, value: float, one: bool):
    vectors = embeddings(3)
    vectors[1, 4] = value
    _, scores, *_ = (OneCluster() if one else clusters).assign(vectors)
    assert np.isnan(scores).tolist() == [False, True, False]


def test_a_vector_of_zeros_lies_somewhere(clusters: Clusters):
    classes, scores, nearness, _ = clusters.assign(np.zeros((1, 16), dtype=np.float32))
    assert classes == [0]
    assert np.isfinite([*scores, *nearness]).all()


def test_one_cluster_takes_everything():
    assert OneCluster().assign(embeddings(3)) == ([0, 0, 0], [1.0] * 3, [0.0] * 3, [0.0] * 3)


def test_clusters_are_read_from_the_artifact(text_artifact: Artifact, clusters: Clusters):
    assert isinstance(read_clusters(text_artifact), OneCluster)
    read = read_clusters(with_clusters(text_artifact, 5, saved(clusters.centroids)))
    np.testing.assert_array_equal(read.centroids, clusters.centroids)


GOOD = np.ones((5, 16), dtype=np.float32)


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"no array",
        b"PK\x03\x04 no archive",
        saved(GOOD)[:60],
        saved(GOOD)[:-1],
        saved(GOOD[:4]),
        saved(GOOD.astype(np.float64)),
        saved(GOOD.T),
        saved(GOOD * np.nan),
        saved(np.array([{}] * 5), allow_pickle=True),
    ],
    ids=["missing", "empty", "text", "zip", "head", "cut", "few", "wide", "turned", "nan", "pickle"],
)
def test_what_is_no_array_of_centroids_is_refused(text_artifact: Artifact, content: bytes | None):
    with pytest.raises(ArtifactError, match=r"clusters\.npy .*: adopt the model again\.$"):
        read_clusters(with_clusters(text_artifact, 5, content))


def test_an_archive_of_arrays_is_refused(text_artifact: Artifact):
    content = io.BytesIO()
    np.savez(content, centroids=GOOD)
    with pytest.raises(ArtifactError, match=r"clusters\.npy .*: adopt the model again\.$"):
        read_clusters(with_clusters(text_artifact, 5, content.getvalue()))


def test_an_encoder_assigns_by_the_artifacts_clusters(embedding_artifact: Artifact):
    encoder = Encoder(embedding_artifact)
    batch = encoder.run([np.array([1, letter, 4, 2]) for letter in range(4, 20)])
    found = read_clusters(embedding_artifact).assign(batch.embedding)
    assert (batch.classes, batch.scores, batch.evidence, batch.entropies) == found
    assert batch.logits.shape == (16, 0)
