import numpy as np
import pytest

from service.telemetry.aggregator import Stretch
from service.telemetry.counters import BOUNDS, Phases, RequestCounters, Tally
from service.telemetry.report import quantiles, recent


def test_quantiles_are_within_a_bucket_of_the_true_ones():
    seconds = np.random.default_rng(0).lognormal(np.log(3e-3), 0.8, 20_000)
    counters = RequestCounters()
    for value in seconds.tolist():
        counters.observe(Phases(*[value] * 8))
    tally, _ = counters.snapshot([])
    found = quantiles(tally.latencies[-1], float(tally.seconds[-1]))
    assert found.count == len(seconds)
    assert found.mean == pytest.approx(seconds.mean())
    for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        assert getattr(found, name) == pytest.approx(np.quantile(seconds, share), rel=0.1)


@pytest.mark.parametrize("seconds", [1e-7, 20.0])
def test_quantiles_beyond_the_bounds_stay_beside_them(seconds: float):
    counters = RequestCounters()
    counters.observe(Phases(*[seconds] * 8))
    found = quantiles(counters.snapshot([])[0].latencies[0], seconds)
    assert found.p99 is not None
    assert BOUNDS[0] / 1.6 <= found.p99 <= BOUNDS[-1] * 1.6


def test_nothing_has_no_quantiles_and_no_ratios():
    nothing = recent(Stretch(0.0, Tally.nothing()))
    assert (nothing.predictions_per_second, nothing.padding_ratio, nothing.mean_batch_rows) == (0.0, None, None)
    assert nothing.latency_seconds["total"].p99 is None
