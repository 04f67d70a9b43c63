"""When traffic changed, in a known world: 60 requests in each bucket of 5 minutes."""

from dataclasses import replace

import numpy as np
import pytest

from runtime.drift.detector import Reference
from runtime.drift.stretches import Stretches, Sums, stretches
from runtime.statistics.traffic import Traffic
from tests.runtime.drift.world import COLUMNS, world

BUCKET = 300.0
History = list[tuple[float, Traffic]]


def history(reference: Reference, *parts: tuple[int, float], size: int = 60, classes: int | None = None) -> History:
    """Parts of (buckets, shift), oldest first."""
    found: History = []
    for count, shift in parts:
        for _ in range(count):
            start = len(found) * BUCKET
            topics = None if classes is None or shift == 0 else np.arange(classes)
            features, chosen = world(size, int(start) + 1, 0.0 if topics is not None else shift, topics)
            found.append((start, reference.sums(features, chosen)))
    return found


def of(reference: Reference, found: History) -> list[tuple[str, float, float]]:
    end = len(found) * BUCKET
    return [(each.state, each.start / BUCKET, each.end / BUCKET) for each in stretches(reference, found, end)]


def test_a_quiet_day_is_one_stretch(reference: Reference) -> None:
    assert of(reference, history(reference, (288, 0.0))) == [("ok", 0, 288)]


@pytest.mark.parametrize("begins", [6, 100, 280])
def test_drift_is_dated_to_its_bucket(reference: Reference, begins: int) -> None:
    found = of(reference, history(reference, (begins, 0.0), (288 - begins, 1.0)))
    assert [state for state, *_ in found] == ["ok", "drift"]
    assert found[1][1] == pytest.approx(begins, abs=1)


def test_drift_that_is_over_has_an_end(reference: Reference) -> None:
    found = of(reference, history(reference, (60, 0.0), (24, 1.5), (60, 0.0)))
    assert [state for state, *_ in found] == ["ok", "drift", "ok"]
    assert found[1][1:] == (pytest.approx(60, abs=1), pytest.approx(84, abs=1))


def test_drift_from_the_beginning_began_then(reference: Reference) -> None:
    assert of(reference, history(reference, (50, 1.5))) == [("drift", 0, 50)]


def test_a_ramp_begins_within_itself(reference: Reference) -> None:
    steps = [(1, 1.5 * step / 72) for step in range(72)]
    found = of(reference, history(reference, (72, 0.0), *steps, (60, 1.5)))
    assert found[-1][0] == "drift" and 72 <= found[-1][1] <= 144


def test_another_mix_is_dated_too(reference: Reference) -> None:
    found = of(reference, history(reference, (80, 0.0), (40, 1.0), classes=3))
    assert [state for state, *_ in found] == ["ok", "mix_shift"]
    assert found[1][1] == pytest.approx(80, abs=1)


def test_a_start_lies_between_its_limits(reference: Reference) -> None:
    hits = 0
    for begins in range(40, 60):
        last = stretches(reference, history(reference, (begins, 0.0), (40, 0.4), size=40), 100 * BUCKET)[-1]
        assert last.earliest <= last.start <= last.latest
        hits += last.earliest <= begins * BUCKET <= last.latest
    assert hits >= 15


def test_sparse_traffic_is_judged_in_long_stretches(reference: Reference) -> None:
    found = of(reference, history(reference, (40, 0.0), (40, 2.0), size=5))
    assert [state for state, *_ in found] == ["ok", "drift"]
    assert found[1][1] == pytest.approx(40, abs=4)


def test_buckets_without_traffic_are_passed_over(reference: Reference) -> None:
    busy = history(reference, (10, 1.5))
    empty = [(start - 20 * BUCKET, Traffic.nothing()) for start, _ in busy]
    assert [(each.state, each.start) for each in stretches(reference, empty + busy, 3000.0)] == [("drift", 0.0)]
    assert stretches(reference, empty, 0.0) == []
    assert stretches(reference, [], 0.0) == []


def test_few_requests_are_no_drift(reference: Reference) -> None:
    assert [state for state, *_ in of(reference, history(reference, (2, 3.0), size=5))] == ["insufficient_data"]


def test_a_small_rise_over_long_traffic_is_drift_at_last(reference: Reference) -> None:
    """What the baseline is too small to tell: the traffic before tells it."""
    assert reference.unlikeness is not None
    quiet = history(reference, (400, 0.0))
    moved = []
    for start, traffic in history(reference, (100, 0.0)):
        more = 0.35 * traffic.requests * np.sqrt(reference.variance[-1])
        totals, by_class = traffic.totals.copy(), traffic.by_class.copy()
        totals[-1] += more
        by_class[0] += more * traffic.counts / traffic.requests
        moved.append((start + 400 * BUCKET, Traffic(traffic.counts, totals, by_class, traffic.repeats, 0)))
    last = stretches(reference, quiet + moved, 500 * BUCKET)[-1]
    assert (last.state, last.sure) == ("drift", True)
    assert last.start / BUCKET == pytest.approx(400, abs=3)


def test_one_input_that_comes_again_and_again_is_no_drift_however_unlike(reference: Reference) -> None:
    features, chosen = world(200, seed=77)
    assert reference.unlikeness is not None
    unlike = int(reference.unlikeness.sums(features).argsort()[-10])  # ordinary, but as one in twenty is
    found: History = []
    for bucket in range(160):
        fresh, classes = world(60, seed=1000 + bucket)
        if bucket >= 80:  # a poller, half of the traffic from then on
            fresh[:30], classes[:30] = features[unlike], chosen[unlike]
        names = [1 if row < 30 and bucket >= 80 else hash((bucket, row)) & (2**64 - 1) for row in range(60)]
        found.append((bucket * BUCKET, reference.sums(fresh, classes, names)))
    last = stretches(reference, found, 160 * BUCKET)[-1]
    assert not (last.state == "drift" and last.sure)


def test_classes_that_nobody_asked_for_change_no_cut(reference: Reference) -> None:
    traffics = [traffic for _, traffic in history(reference, (40, 0.0), (40, 1.0), classes=3)]
    wide = replace(reference, class_means=np.vstack([reference.class_means, np.ones((50, COLUMNS))]))
    wider = [replace(traffic, counts=np.append(traffic.counts, np.zeros(50, dtype=int))) for traffic in traffics]
    one, other = list(Sums(reference, traffics).cuts(0, 80)), list(Sums(wide, wider).cuts(0, 80))
    assert [cut.place for cut in one] == [cut.place for cut in other] and one
    np.testing.assert_allclose([cut.gain for cut in one], [cut.gain for cut in other])


def test_stretches_are_found_once_in_ten_seconds(reference: Reference) -> None:
    asked, now = [], [3001.0]

    def known() -> History:
        asked.append(1)
        return history(reference, (10, 1.5))

    found = Stretches(known, lambda: now[0])
    assert found.up_to(reference, 3010.0) is found.up_to(reference, 3001.0)  # both end in the present
    assert len(asked) == 1
    assert found.up_to(reference, 900.0)[-1].end == 900.0 and len(asked) == 2
    assert found.up_to(reference, 3010.0) and len(asked) == 3
    now[0] += 10
    assert found.up_to(reference, 3020.0) and len(asked) == 4
    assert found.up_to(None, 900.0) == []
