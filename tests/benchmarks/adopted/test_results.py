import pytest

from benchmarks.adopted.no_server import BARE, RECORDED, RUN, SINGLE, SORTED
from benchmarks.adopted.report import cell, show_ratio
from benchmarks.adopted.results import Ratio, Results, Sample, cpu_rate, latency, rate
from benchmarks.adopted.workloads import MANY, ONE


def samples(*rates: float, busy: float = 1.0) -> list[Sample]:
    return [Sample(value, 1 / value, busy) for value in rates]


def test_ratio_is_the_median_of_ratios_in_the_same_round():
    results = Results({(MANY.name, SORTED): samples(100, 50, 40), (MANY.name, "addnorm"): samples(90, 45, 20)})
    assert results.ratio(MANY.name, "addnorm", rate) == Ratio(0.9, 0.5, 0.9)
    assert results.ratio(MANY.name, "infinity", rate) is None


def test_latency_of_one_client_is_compared_with_texts_run_one_by_one():
    results = Results({(ONE.name, SINGLE): samples(100), (ONE.name, "addnorm"): samples(50)})
    assert results.ratio(ONE.name, "addnorm", latency) == Ratio(2, 2, 2)


def test_rate_in_cpu_time_leaves_out_what_others_took():
    results = Results({(MANY.name, SORTED): samples(100), (MANY.name, "addnorm"): samples(45, busy=0.5)})
    ratio = results.ratio(MANY.name, "addnorm", cpu_rate)
    assert ratio is not None and ratio.median == pytest.approx(0.9)


def test_failed_requests_are_shown_beside_the_ratio():
    found = [Sample(90, 0.1, 1, failed={429: 2}), Sample(90, 0.1, 1, wrong=1, failed={429: 1, 0: 1})]
    results = Results({(MANY.name, SORTED): samples(100, 100), (MANY.name, "addnorm"): found})
    assert cell(results, MANY, "addnorm", rate) == "0.90\n3 refused, 1 wrong, 1 without answer"
    assert show_ratio(Ratio(0.9, 0.8, 1.0)) == "0.90 (0.80 to 1.00)"


def test_statistics_are_compared_in_the_same_round():
    results = Results(statistics={BARE: [1, 2], RUN: [2, 4], RECORDED: [3, 6]})
    assert [ratio.median for ratio in results.statistics_ratios().values()] == [1.5, 3]
