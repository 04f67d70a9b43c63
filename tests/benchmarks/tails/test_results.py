"""Ratios of rounds, and what overlapped the slowest requests."""

import math

import numpy as np
import pytest

from benchmarks.serving.open_loop import Answers
from benchmarks.tails.results import (
    CONTROL,
    NOBODY,
    OTHERS,
    OURS,
    Activity,
    Phase,
    activities,
    activities_table,
    batch_times,
    measured,
    overlapped,
    ratios,
    ratios_table,
    tails_table,
    too_long,
    with_waits,
)
from benchmarks.tails.traced import BATCH, Note

BEGAN = 1000.0  # when the load began, on the clock of the notes


def answers(latencies: list[float], status: int = 200) -> Answers:
    """Requests that were due every second."""
    due = np.arange(len(latencies), dtype=float)
    return Answers(np.full(len(due), status), due, due + 1e-3, due + latencies)


def phase(server: str, beside: str, number: int, p50: float, p99: float) -> Phase:
    return Phase(server, beside, number, 1000.0, p50, p99, p99, 1.0, 0.0, 0.5)


def test_quantiles_are_those_of_the_answers() -> None:
    found = measured(OURS, "nothing", 0, 100.0, answers(np.linspace(0.0, 1.0, 101).tolist()), 0.5)
    assert (found.p50, found.p99, found.tail) == pytest.approx((0.5, 0.99, 1.98))
    assert (found.answered, found.late) == pytest.approx((1.0, 1e-3))


def test_ratios_are_taken_round_by_round() -> None:
    tails = {OURS: [2.0, 6.0, 9.0], CONTROL: [2.0, 3.0, 2.0]}
    phases = [phase(server, "scrapes", n, 1.0, tail) for server, some in tails.items() for n, tail in enumerate(some)]
    (found,) = ratios(phases)
    assert (found.beside, found.middle, found.least, found.most, found.met) == ("scrapes", 2.0, 1.0, 4.5, False)
    assert "| scrapes | 2.00 (1.00 to 4.50) | **no** |" in ratios_table([found])


def test_table_has_a_row_for_each_server_and_what_was_asked_beside() -> None:
    phases = [phase(server, beside, 0, 1e-3, 3e-3) for beside in ("nothing", "scrapes") for server in (OURS, CONTROL)]
    lines = tails_table(phases).splitlines()
    assert len(lines) == 6
    assert "| AddNorm | nothing | 1,000 | 1.00 | 3.00 | 3.00 | 3.00 |" in lines[2]


def test_overlap_is_found_whatever_the_order_and_the_nesting() -> None:
    rng = np.random.default_rng(0)
    start, begun = rng.uniform(0, 10, 200), rng.uniform(0, 10, 30)
    stop, ended = start + rng.exponential(0.1, 200), begun + rng.exponential(0.3, 30)
    expected = [
        any(b < after and before < e for b, e in zip(begun, ended, strict=True))
        for before, after in zip(start, stop, strict=True)
    ]
    assert overlapped(start, stop, begun, ended).tolist() == expected
    assert 0 < sum(expected) < 200


def test_what_ran_beside_the_slowest_is_told_apart_from_what_always_runs() -> None:
    latencies = [0.01] * 50
    latencies[7] = latencies[30] = 0.2
    notes = [
        Note("slow", BEGAN + 7.1, 0.05, 0.04),
        Note("slow", BEGAN + 30.1, 0.05, 0.04),
        *(Note("always", BEGAN + second, 0.005, 1e-4) for second in range(50)),
        Note("before", BEGAN - 5.0, 1.0, 1.0),
    ]
    (slow, always), alone = activities(notes, answers(latencies), BEGAN, worst=2)
    assert alone == 0
    assert (slow.name, slow.count, slow.worst, slow.usual) == ("slow", 2, 2, pytest.approx(2 / 50))
    assert (slow.median, slow.most, slow.held) == pytest.approx((0.05, 0.05, 0.04))
    assert (always.name, always.count, always.worst, always.usual) == ("always", 50, 2, 1.0)
    assert too_long([slow, always]) == ["slow"]


def test_a_thread_holds_up_others_by_what_it_takes_of_their_batches() -> None:
    notes = [
        Note("in a thread", BEGAN + 1.0, 0.5, 0.4, in_loop=False),
        Note(BATCH, BEGAN + 1.1, 0.01, 0.004, others=0.006, rows=1, tokens=5),
        Note(BATCH, BEGAN + 3.0, 0.01, 0.01, others=0.2, rows=1, tokens=5),
    ]
    found = {each.name: each for each in activities(notes, answers([0.9] * 5), BEGAN, worst=1)[0]}
    assert found["in a thread"].held == pytest.approx(0.006)
    assert not found["in a thread"].in_loop


def test_refused_requests_are_not_among_the_slowest() -> None:
    some = answers([0.01, 0.01, 0.9])
    some.status[2] = 429
    (found,), alone = activities([Note("x", BEGAN + 1.0, 0.005, 0.005)], some, BEGAN, worst=2)
    assert (found.usual, found.worst, alone) == (0.5, 1, 1)


def test_waits_of_batches_take_their_place() -> None:
    quick, slow = Note(BATCH, 1.0, 0.004, 0.004), Note(BATCH, 2.0, 0.016, 0.004, others=0.002)
    found = with_waits([quick, slow, Note("fold", 3.0, 0.001, 0.001)])
    assert [(note.name, note.seconds) for note in found] == [("fold", 0.001), (OTHERS, 0.002), (NOBODY, 0.01)]


def test_what_batches_waited_for_is_nothing_that_the_service_does() -> None:
    seen = [Activity(name, True, 1, 1.0, 1.0, 1.0, 1.0, 100, 1.0) for name in (OTHERS, NOBODY, "fold")]
    assert too_long(seen) == ["fold"]
    assert "| fold | event loop | 1 | 1000.00 |" in activities_table(seen)


def test_times_of_batches_are_fitted_to_core_time() -> None:
    notes = [Note(BATCH, float(n), math.pi, 1e-3 + 1e-4 * n, rows=1 + n % 3, tokens=n) for n in range(200)]
    assert batch_times(notes).token == pytest.approx(1e-4)
    with pytest.raises(SystemExit, match="holds 99 batches"):
        batch_times(notes[:99])
