"""Live traffic that was taken as the baseline, in a known world."""

import json

import numpy as np
import pytest

from runtime.drift.detector import Reference
from runtime.statistics.traffic import Traffic
from tests.runtime.drift.test_detector import rate
from tests.runtime.drift.world import CLASSES, MEANS, world


def test_live_traffic_becomes_what_is_normal(reference: Reference) -> None:
    features, classes = world(600, seed=5, shift=2.0, classes=np.array([1, 2, 3]))
    taken = reference.sums(features, classes)
    assert reference.judge(taken).state == "drift"
    moved = reference.recentred(taken)
    assert moved.judge(taken).state == "ok"
    assert rate(moved, "drift", 100, shift=2.0, classes=np.array([1, 2, 3])) <= 0.05
    assert rate(moved, "ok", 100, shift=2.0, classes=np.array([1, 2, 3])) >= 0.9
    assert rate(moved, "drift", 100, classes=np.array([1, 2, 3])) == 1


def wild(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Another world than the validation data's: elsewhere, and twice as far apart."""
    features, classes = world(rows, seed, shift=1.5)
    return 2 * features - MEANS[classes], classes


def test_live_traffic_that_lies_further_apart_is_normal_with_its_own_spread(reference: Reference) -> None:
    parts = [reference.sums(*wild(30, seed)) for seed in range(100, 140)]
    whole = Traffic.merge_all(parts)

    def alarms(found: Reference) -> float:
        return float(np.mean([found.judge(found.sums(*wild(200, seed))).state == "drift" for seed in range(200, 300)]))

    assert alarms(reference) == 1
    assert alarms(reference.recentred(whole, parts)) <= 0.05 < alarms(reference.recentred(whole))
    for few in (parts[:9], [whole] * 3):  # too few to tell
        assert not reference.recentred(whole, few).part_excess.any()
    kept = Reference.from_dict(json.loads(json.dumps(reference.recentred(whole, parts).to_dict())))
    assert alarms(kept) <= 0.05 and kept.part_requests == pytest.approx(30)


def test_traffic_that_wanders_is_judged_as_sharply_however_much_of_it_there_is(reference: Reference) -> None:
    """Averages of 5 minutes wander by a tenth of a sigma, however many requests they are of."""
    for size in (1_000, 100_000):
        counts = np.full(CLASSES, size / CLASSES)
        wander = 0.1 * np.sin(np.arange(60))[:, None] * np.sqrt(reference.variance)
        parts = [
            Traffic(counts, counts @ reference.class_means + size * each, np.zeros((2, CLASSES))) for each in wander
        ]
        moved = reference.recentred(Traffic.merge_all(parts), parts)
        assert moved.part_excess.max() / size < 0.01 * reference.variance.max()
        assert rate(moved, "drift", 1000, windows=50, shift=0.5) == 1


def test_parts_that_lie_elsewhere_than_all_the_traffic_do_not_lie_apart(reference: Reference) -> None:
    parts = [reference.sums(*world(200, seed)) for seed in range(40)]
    before = [reference.sums(*world(200, seed, shift=1.0)) for seed in range(100, 200)]
    usual = reference.recentred(Traffic.merge_all(parts), parts)
    moved = reference.recentred(Traffic.merge_all([*before, *parts]), parts)
    np.testing.assert_allclose(moved.part_excess, usual.part_excess, rtol=1e-9)
