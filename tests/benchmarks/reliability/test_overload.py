"""How goodput is counted and judged, and that a service is overloaded and comes back."""

from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from benchmarks.reliability import overload as module
from benchmarks.reliability.__main__ import faults_of
from benchmarks.reliability.overload import answered_rate, judge, overload, quota
from benchmarks.serving.open_loop import Answers


def test_goodput_is_what_was_answered_in_time_and_not_refused():
    status, answered = np.array([200, 200, 429, 200, 0]), np.array([1.0, 1.9, 1.5, 2.0, np.nan])
    due = np.zeros(5)
    assert answered_rate(Answers(status, due, due, answered), 1.0, 2.0) == 2.0
    assert answered_rate(Answers(status, due, due, answered), 0.0, 4.0) == 0.75


@pytest.mark.parametrize("method", ["mkdir", "write_text"])
def test_without_control_groups_nothing_is_limited(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Nor does it fail: without the right, or without the controller."""

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(module, "Path", lambda _: tmp_path)
    monkeypatch.setattr(Path, method, refuse)
    with quota(Mock()) as limited:
        assert not limited


def test_cases_are_judged_by_their_median_and_their_least():
    shares = {(2, 200): [90, 70, 99], (2, 1000): [69, 99, 99], (5, 200): [59, 59, 99], (5, 1000): [60, 40, 99]}
    found = judge(shares)
    assert (found["2x over 200, median %"], found["2x over 200, least %"]) == (90, 70)
    assert found["goodput too low"] == 2
    assert faults_of("overload", found) == ["goodput too low"]
    assert faults_of("overload", judge({(5, 1000): [60, 40, 99]})) == []


def test_service_is_overloaded_and_answers_on(monkeypatch: pytest.MonkeyPatch):
    for name, value in {"OPENING": 0.2, "COUNTED": 0.5, "CALM": 0.1, "CASES": [(5, 50)]}.items():
        monkeypatch.setattr(module, name, value)
    found = overload(1)
    assert found["5x over 50, least %"] > 0
    assert (found["left in flight"], found["tracebacks"]) == (0, 0)
