"""What came before the day, of totals and days that come one after the other."""

from dataclasses import replace

import numpy as np
import pytest

from runtime.manifest import NormLayer
from runtime.statistics.fleet import EVERYTHING, FleetRecorder, Others, before
from runtime.statistics.recorder import NormRecorder
from runtime.statistics.state import NormState, SparseState
from runtime.statistics.traffic import Traffic

LAYERS = [NormLayer(name="norm", kind="layer_norm", placement="post", d_model=4, eps=1e-5)]
START = 1_700_000_000.0


def traffic(*counts: int) -> Traffic:
    return Traffic(np.array(counts), np.array([float(sum(counts))]))


@pytest.mark.parametrize(
    ("everything", "day", "expected"),
    [
        (traffic(5, 7), traffic(2, 7), [3, 0]),
        (traffic(5, 7), Traffic.nothing(), [5, 7]),
        (Traffic.nothing(), traffic(2, 7), []),  # not there yet
        (traffic(9, 6), traffic(2, 7), []),  # of an earlier time than the day
    ],
)
def test_before_the_day_came_what_the_totals_have_beyond_it(everything: Traffic, day: Traffic, expected: list[int]):
    assert before(everything, day).counts.tolist() == expected


def test_traffic_is_told_before_the_totals_have_come():
    own = NormRecorder(LAYERS)
    own.clock = lambda: START
    others = Others(LAYERS)
    fleet = FleetRecorder(own, others)
    state = SparseState.compress(replace(NormState.empty(LAYERS), requests=5, traffic=traffic(2, 3)))
    others.put({("window-300", int(START // 300)): state}, START - 900.0, START)
    (_, older), (_, day) = fleet.traffic()
    assert (older.requests, day.counts.tolist()) == (0, [2, 3])
    whole = SparseState.compress(replace(NormState.empty(LAYERS), requests=9, traffic=traffic(4, 5)))
    others.put({(EVERYTHING, 0): whole}, START - 900.0, START)
    assert fleet.traffic()[0][1].counts.tolist() == [2, 2]
