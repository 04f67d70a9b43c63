"""The clock that traffic is counted by follows the system's forwards, and never goes back."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.statistics import clock as module
from runtime.statistics.clock import JUMP, steady_clock


class Times:
    """Both clocks of the system, to be set."""

    def __init__(self) -> None:
        self.system, self.passed = 1_764_115_200.0, 5.0

    def time(self) -> float:
        return self.system

    def monotonic(self) -> float:
        return self.passed

    def go(self, seconds: float, jump: float = 0.0) -> None:
        self.passed += seconds
        self.system += seconds + jump


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> Times:
    times = Times()
    monkeypatch.setattr(module, "time", times)
    return times


def test_clock_goes_on_evenly_when_the_system_clock_is_set_back(monkeypatch: pytest.MonkeyPatch):
    clock = steady_clock()
    before = clock()
    monkeypatch.setattr(module.time, "time", lambda: 0.0)
    assert before <= clock() < before + 60


@pytest.mark.parametrize("jump", [JUMP + 0.1, 3600.0, 1e9])
def test_clock_follows_one_that_is_set_ahead(times: Times, jump: float):
    clock = steady_clock()
    times.go(1.0, jump)
    assert clock() == pytest.approx(times.system, abs=1e-3)
    times.go(1.0)
    assert clock() == pytest.approx(times.system, abs=1e-3)


@pytest.mark.parametrize("jump", [JUMP - 0.1, -1.0, -1e9])
def test_clock_goes_on_evenly_where_the_system_clock_is_near_or_behind(times: Times, jump: float):
    clock = steady_clock()
    before = clock()
    times.go(1.0, jump)
    assert clock() == pytest.approx(before + 1.0, abs=1e-3)


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(-1e4, 1e4)), max_size=30))
def test_clock_never_goes_back_and_is_never_far_behind(moves: list[tuple[float, float]]):
    times = Times()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "time", times)
        clock: Callable[[], float] = steady_clock()
        before = clock()
        for seconds, jump in moves:
            times.go(seconds, jump)
            now = clock()
            assert now >= before and now >= times.system - JUMP - 1e-3
            before = now
