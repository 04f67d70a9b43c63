"""Sums over requests, and how many of them tell as much as others."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.graph.batch import identity
from runtime.statistics.traffic import COUNTERS, Traffic, sketch


def identities(texts: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(2**64, size=texts, dtype=np.uint64).tolist()


def asked(hashes: list[int], classes: int = 3) -> Traffic:
    chosen = np.arange(len(hashes)) % classes
    numbers = np.arange(2.0 * len(hashes)).reshape(-1, 2)
    return Traffic.of(numbers, chosen, classes, hashes, np.ones((2, len(hashes))))


@given(st.lists(st.integers(0, 30), min_size=1, max_size=60), st.integers(0, 59), st.randoms(use_true_random=False))
def test_sums_of_parts_in_any_order_are_those_of_all(texts: list[int], cut: int, random: object):
    hashes = [identities(31)[text] for text in texts]
    parts = [asked(hashes[:cut]), asked(hashes[cut:])]
    random.shuffle(parts)  # type: ignore[attr-defined]
    both = Traffic.nothing().merge(parts[0]).merge(parts[1])
    np.testing.assert_array_equal(both.repeats, sketch(hashes))
    assert (both.requests, both.sketched) == (len(hashes), len(hashes))
    assert both.by_class.sum() == 2 * len(hashes)


def test_what_is_taken_away_is_gone():
    some, more = asked(identities(50)), asked(identities(70, seed=1))
    left = some.merge(more).without(more)
    for name in ("counts", "totals", "by_class", "repeats", "sketched"):
        np.testing.assert_array_equal(getattr(left, name), getattr(some, name))
    assert some.without(Traffic.nothing()) is some


@pytest.mark.parametrize("count", [50, 1000, 20_000])
def test_unlike_requests_count_each(count: int):
    found = [asked(identities(count, seed)).effective for seed in range(20)]
    assert np.mean(found) == pytest.approx(count, rel=0.08)
    assert max(found) <= count


@pytest.mark.parametrize("times", [4, 40])
def test_repeats_count_once(times: int):
    found = [asked(identities(100, seed) * times).effective for seed in range(20)]
    assert np.mean(found) == pytest.approx(100, rel=0.08)


def test_requests_asked_by_unequal_shares_count_by_their_squares():
    rng = np.random.default_rng(0)
    shares = np.arange(1, 501) ** -1.1
    counts = rng.multinomial(5000, shares / shares.sum())
    hashes = [each for each, count in zip(identities(500), counts, strict=True) for _ in range(count)]
    assert asked(hashes).effective == pytest.approx(5000**2 / np.square(counts).sum(), rel=0.25)


def test_one_hot_input_is_told_by_its_share_alone():
    hashes = identities(60) + identities(1, seed=9) * 40
    assert asked(hashes).most_repeated == pytest.approx(0.4, abs=0.03)
    assert asked(identities(1000)).most_repeated < 0.05


def test_requests_without_a_sketch_count_each():
    old = Traffic(np.array([60, 40]), np.zeros(2))
    assert (old.effective, old.most_repeated) == (100, 0)
    new = Traffic.of(np.zeros((100, 2)), np.zeros(100, dtype=np.int64), 2, identities(1) * 100)
    assert old.merge(new).effective == pytest.approx(200**2 / (100 + 100**2), rel=1e-9)
    assert len(new.repeats) == COUNTERS


def test_equal_inputs_have_one_identity_in_every_process():
    tokens = np.array([5, 7, 9])
    assert identity(tokens) == identity(tokens.copy()) == 0xA5FB5E191E1B552E
    assert identity(tokens) != identity(tokens[::-1].copy())
    image = np.random.default_rng(0).normal(size=(3, 224, 224)).astype(np.float32)
    assert identity(image) == identity(image.copy()) != identity(image + 1)
