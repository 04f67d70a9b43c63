"""Simulated months: what is older than a day is one bucket, and calls are counted once."""

import numpy as np
import pytest

from benchmarks.drift.months import DAY, HOUR, Asked, Calls
from runtime.drift.detector import Reference
from tests.runtime.drift.world import CLASSES, world


def asked(reference: Reference, rows: int, shift: float = 0.0) -> Asked:
    features, classes = world(rows, seed=3, shift=0.0)
    features[:, -3:] += np.array([1.0, -1.0, 1.0]) * shift
    assert reference.unlikeness is not None
    numbers = reference.numbers(features)
    judged = np.stack([numbers[:, -1], reference.unlikeness.accuracy(features)])
    return Asked(numbers, judged, classes, [np.flatnonzero(classes == label) for label in range(CLASSES)])


@pytest.fixture
def calls(reference: Reference) -> Calls:
    return Calls(reference, asked(reference, 3000), asked(reference, 500, shift=2.0))


def test_traffic_has_its_days_and_its_share(calls: Calls):
    buckets = calls.traffic(1200, 7, 0, lambda _: 0.0)
    by_hour = np.array([traffic.requests for traffic in buckets]).reshape(7, 24, HOUR).sum(2)
    assert by_hour.sum() / (7 * 24) == pytest.approx(1200, rel=0.05)
    assert by_hour[:, 14].mean() > 3 * by_hour[:, 2].mean()
    assert by_hour[5:].sum() / 2 < 0.5 * by_hour[:5].sum() / 5


def test_a_look_knows_all_that_came_before(calls: Calls):
    buckets = calls.traffic(100, 3, 0, lambda _: 0.0)
    looks = calls.looks(buckets)
    assert len(looks) == 3 * 24 and looks[-1].end == 3 * 86_400
    assert {each.state for each in looks[24:]} <= {"ok", "mix_shift"}
    assert calls.looks(buckets, every=DAY)[-1] == looks[-1]


def test_new_classes_are_called_for_once_they_come(calls: Calls):
    assert 0 < calls.delay(500, 0.3, 24, seed=0) < 1000
    assert calls.delay(100, 0.0, 24, seed=0) == float("inf")
    assert calls.misdated(500, 0.3, seed=0) < 15
    assert calls.within_ramp(500, 0.4, seed=0)
