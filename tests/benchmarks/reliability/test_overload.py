"""How goodput is counted and judged, and that a service is overloaded and comes back."""

import numpy as np
import pytest

from benchmarks.reliability import overload as module
from benchmarks.reliability.__main__ import faults_of
from benchmarks.reliability.overload import answered_rate, overload, quota
from benchmarks.serving.open_loop import Answers


def test_goodput_is_what_was_answered_in_time_and_not_refused():
    status, answered = np.array([200, 200, 429, 200, 0]), np.array([1.0, 1.9, 1.5, 2.0, np.nan])
    due = np.zeros(5)
    assert answered_rate(Answers(status, due, due, answered), 1.0, 2.0) == 2.0
    assert answered_rate(Answers(status, due, due, answered), 0.0, 4.0) == 0.75


def test_without_control_groups_nothing_is_limited(monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(module.Path, "mkdir", refuse)
    with quota(1) as limited:
        assert not limited


@pytest.mark.parametrize(("least", "faults"), [(0, []), (10_000, ["goodput too low"])])
def test_service_is_overloaded_and_judged(least: int, faults: list[str], monkeypatch: pytest.MonkeyPatch):
    for name, value in {
        "OPENING": 0.2,
        "COUNTED": 0.5,
        "CALM": 0.1,
        "CASES": [(5, 50)],
        "BARS": {5: (least, least)},
    }.items():
        monkeypatch.setattr(module, name, value)
    found = overload(1)
    assert faults_of("overload", found) == faults
    assert found["5x over 50, median %"] > 0
