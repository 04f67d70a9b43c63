import io

import numpy as np
import pytest

from export.adopt.clusters import FEWEST, LEAST_PER_CLUSTER, fit_clusters, spherical_k_means, split, to_bytes
from runtime.graph.batch import unit
from runtime.graph.clusters import Clusters


def blobs(centres: int, each: int, noise: float = 0.02, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Vectors around `centres` axes in turn [centres * each, 8], not of length 1, and the axis of each."""
    rng = np.random.default_rng(seed)
    axes = np.tile(np.arange(centres), each)
    vectors = np.eye(8)[axes] + noise * rng.normal(size=(len(axes), 8))
    return (vectors * rng.uniform(0.5, 3, (len(axes), 1))).astype(np.float32), axes


def noise(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, 8)).astype(np.float32)


def counts(centroids: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Texts of the reference in each cluster, by cosines in float64."""
    cosine = unit(reference).astype(np.float64) @ centroids.astype(np.float64).T
    return np.bincount(cosine.argmax(1), minlength=len(centroids))


@pytest.mark.parametrize("count", [3, 10, 300, 301, 302, 1500])
def test_split_parts_all_texts_into_a_third_and_the_rest(count: int):
    first, second = split(count)
    assert sorted([*first, *second]) == list(range(count))
    assert len(first) == round(count / 3)
    assert (np.diff(first) > 0).all() and (np.diff(second) > 0).all()


def test_split_is_the_same_every_time_and_differs_by_seed():
    for found, expected in zip(split(300), split(300), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert (split(300)[0] != split(300, seed=1)[0]).any()


def test_split_does_not_follow_the_order_of_the_file():
    first, _ = split(900)
    assert 250 < (first < 450).sum() * 2 < 350


def test_clusters_are_the_same_every_time():
    vectors, reference = noise(500), noise(1000, seed=1)
    np.testing.assert_array_equal(fit_clusters(vectors, reference), fit_clusters(vectors, reference))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rows", [FEWEST, 700, 1500, 3000])
def test_every_cluster_has_fifty_texts_of_the_reference_or_is_the_only_one(rows: int, seed: int):
    vectors = noise(rows, seed)
    first, second = split(rows)
    centroids = fit_clusters(vectors[first], vectors[second])
    found = counts(centroids, vectors[second])
    assert 1 <= len(centroids) <= round(len(second) / 100)
    assert len(centroids) == 1 or found.min() >= LEAST_PER_CLUSTER


@pytest.mark.parametrize("rows", [FEWEST, 1500])
def test_centroids_have_length_one(rows: int):
    centroids = fit_clusters(noise(rows), noise(2 * rows, seed=1))
    assert centroids.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(centroids.astype(np.float64), axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_topics_that_lie_apart_are_found(seed: int):
    vectors, axes = blobs(4, 200, seed=seed)
    first, second = split(len(vectors))
    centroids = fit_clusters(vectors[first], vectors[second], seed=seed)
    assert 3 <= len(centroids) <= 5
    assigned = np.array(Clusters(centroids).assign(vectors)[0])
    for cluster in range(len(centroids)):
        inside = np.bincount(axes[assigned == cluster], minlength=4)
        assert (inside > 0.95 * inside.sum()).any() or len(centroids) < 4


def test_two_topics_that_lie_apart_become_two_clusters():
    vectors, axes = blobs(2, 150)
    first, second = split(len(vectors))
    assigned = np.array(Clusters(fit_clusters(vectors[first], vectors[second])).assign(vectors)[0])
    assert len(set(zip(assigned.tolist(), axes.tolist(), strict=True))) == 2


def test_a_topic_with_few_texts_has_no_cluster_of_its_own():
    many, _ = blobs(2, 400)
    rare = np.tile(np.eye(8, dtype=np.float32)[5], (20, 1))
    centroids = fit_clusters(np.concatenate([many, rare]), np.concatenate([many, rare]))
    assert (centroids @ rare[0]).max() < 0.9
    assert counts(centroids, many).min() >= LEAST_PER_CLUSTER


@pytest.mark.parametrize("value", [0.0, 1.0, -3e38, 1e-38])
def test_texts_that_are_all_alike_give_one_cluster(value: float):
    vectors = np.full((400, 8), value, dtype=np.float32)
    centroids = fit_clusters(vectors[:150], vectors[150:])
    assert centroids.shape == (1, 8)
    np.testing.assert_allclose(centroids[0], np.sign(value) / np.sqrt(8) * np.ones(8), rtol=1e-6)
    _, scores, nearness, _ = Clusters(centroids).assign(vectors)
    assert np.isfinite(scores).all() and np.isfinite(nearness).all()


def test_fewer_vectors_than_clusters_make_do():
    centroids = fit_clusters(noise(2), noise(1000, seed=1))
    assert len(centroids) <= 2 and np.isfinite(centroids).all()


def test_clusters_are_a_fixed_point_of_lloyds_algorithm():
    """Each is the direction of the mean of the texts nearest to it, by a float64 assignment."""
    vectors = unit(noise(300))
    centroids = spherical_k_means(vectors, 5, seed=0).astype(np.float64)
    nearest = (vectors.astype(np.float64) @ centroids.T).argmax(1)
    for cluster, centroid in enumerate(centroids):
        mean = vectors[nearest == cluster].astype(np.float64).mean(0)
        np.testing.assert_allclose(centroid, mean / np.linalg.norm(mean), atol=1e-5)


def test_no_cluster_stays_empty_where_vectors_differ():
    vectors = unit(np.concatenate([np.tile(noise(1), (100, 1)), noise(5, seed=2)]))
    centroids = spherical_k_means(vectors, 6, seed=3)
    assert np.isfinite(centroids).all()
    assert (np.bincount((vectors @ centroids.T).argmax(1), minlength=6) > 0).sum() >= 5


def test_bytes_are_an_array_that_numpy_reads():
    centroids = fit_clusters(noise(300), noise(600, seed=1))
    read = np.load(io.BytesIO(to_bytes(centroids)), allow_pickle=False)
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, centroids)
