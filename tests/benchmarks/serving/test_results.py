import numpy as np
import pytest

from benchmarks.serving.closed_loop import CLASSES, MANY, ONE, ROWS, Sample
from benchmarks.serving.limit import NAME as LIMIT
from benchmarks.serving.open_loop import Answers
from benchmarks.serving.results import EMBEDDED, INT8, MAIN, Phase, Results, floors, overload_targets, rate, targets
from benchmarks.serving.servers import BARE, OURS, PLAIN


def samples(*rates: float, busy: float = 1.0) -> list[Sample]:
    return [Sample(rate=value, p50=1 / value, p99=2 / value, busy=busy) for value in rates]


def phase(load: float, *latencies: float) -> Phase:
    due = np.arange(len(latencies), dtype=np.float64)
    return Phase(100, load, Answers(np.full(len(due), 200), due, due, due + latencies))


def test_ratio_is_the_median_of_ratios_in_the_same_round():
    mine, theirs = (MAIN, MANY, OURS), (MAIN, MANY, PLAIN)
    results = Results({mine: samples(100, 50, 30), theirs: samples(50, 25, 10)})  # a machine that slows down
    assert results.ratio(mine, [theirs], rate).ratio == 2
    assert results.ratio(mine, [theirs], rate).spread == (2, 3)


def test_ratio_to_several_is_to_the_best_of_each_round():
    keys = [(MAIN, MANY, name) for name in (OURS, "MLServer", "LitServe")]
    results = Results(dict(zip(keys, [samples(90, 80), samples(30, 10), samples(10, 40)], strict=True)))
    assert results.ratio(keys[0], keys[1:], rate).spread == (2, 3)


def test_targets_are_met_from_their_limit_on():
    results = Results({(MAIN, MANY, OURS): samples(85, busy=0.5), (MAIN, MANY, LIMIT): samples(100)})
    (target,) = targets(results)
    assert (target.measured, target.limit, target.met) == (0.85, 0.85, True)
    assert target.in_cpu_time == pytest.approx(1.7)  # it had half of its core


def test_the_embedded_model_has_targets_of_its_own():
    results = Results({(EMBEDDED, MANY, OURS): samples(74), (EMBEDDED, MANY, LIMIT): samples(100)})
    (target,) = targets(results)
    assert (target.limit, target.met) == (0.75, False)


def test_all_classes_are_compared_with_the_run_that_has_all_logits():
    results = Results({(MAIN, CLASSES, OURS): samples(60), (MAIN, MANY, LIMIT): samples(100)})
    (target,) = targets(results)
    assert (target.measured, target.limit) == (0.6, 0.75)
    assert "all classes" in target.name


def test_memory_is_of_all_processes_for_each_worker_and_starts_are_compared_in_turns():
    starts = {(MAIN, OURS): [0.6, 0.5], (MAIN, PLAIN): [0.3, 0.5]}
    results = Results(first_answer=starts, several=[10_000_000, 90_000_000, 90_000_000, 90_000_000, 90_000_000])
    memory, start = targets(results)
    assert (memory.measured, memory.met) == (92.5, False)
    assert (start.measured, start.limit) == (1.5, 1.2)


def test_int8_is_compared_with_the_same_service_over_fp32():
    results = Results({(INT8, ROWS, OURS): samples(300), (MAIN, ROWS, OURS): samples(200)})
    (target,) = targets(results)
    assert (target.name, target.measured, target.met) == ("int8 / fp32, rows/s", 1.5, True)


def test_a_floor_is_what_the_bare_server_reaches_and_ours_of_it():
    results = Results({(MAIN, MANY, OURS): samples(60), (MAIN, MANY, BARE): samples(80)})
    assert floors(results) == []  # nothing to compare the bare server with
    results.samples |= {(MAIN, MANY, LIMIT): samples(100)}
    results.samples |= {(MAIN, CLASSES, OURS): samples(40), (MAIN, CLASSES, BARE): samples(50)}
    many, classes = floors(results)
    assert (many.bare.ratio, many.ours.ratio) == (0.8, 0.75)
    assert (classes.bare.ratio, classes.ours.ratio) == (0.5, 0.8)  # of the run that has all logits


def test_a_floor_of_one_client_is_its_latency():
    rates = {OURS: 25, BARE: 50, LIMIT: 100}
    (one,) = floors(Results({(MAIN, ONE, name): samples(rate) for name, rate in rates.items()}))
    assert (one.bare.ratio, one.ours.ratio) == (2, 2)


def test_overload_is_compared_with_capacity_and_half_of_it_with_itself():
    phases = [phase(0.5, *[0.01] * 50, 0.04), phase(1.0, *[0.1] * 10), phase(5.0, *[0.2] * 10)]
    half, overload = overload_targets(phases)
    assert half.measured == pytest.approx(np.percentile([0.01] * 50 + [0.04], 99) / 0.01)
    assert (overload.measured, overload.met) == (pytest.approx(2), False)


def test_nothing_is_promised_of_what_was_not_measured():
    assert targets(Results()) == []
