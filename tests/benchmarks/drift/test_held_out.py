"""Which rows a task's file holds, and how its windows are drawn."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.drift import held_out as tasks
from benchmarks.drift.held_out import FILE, HeldOut
from benchmarks.drift.task_judges import above_null, unlike_pairs
from benchmarks.drift.task_traffic import (
    Requests,
    TaskWorld,
    both,
    foreign_word,
    hot,
    repeated,
    some,
    texts_by_kind,
    with_share,
    zipf,
)
from runtime.drift.detector import Reference

ROWS = [(f"text {number} of {label}", label) for label in "abcdefgh" for number in range(20)]


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> HeldOut:
    monkeypatch.setattr(tasks, "SETS", {"snips": lambda _: (ROWS[:100], ROWS[100:] + ROWS[:3])})
    monkeypatch.setattr("benchmarks.drift.task_traffic.SETS", {"banking77": lambda _: (ROWS, ROWS[:5])})
    return tasks.held_out("snips-b", Path("nowhere"))


def test_every_row_is_in_one_place(task: HeldOut):
    assert sorted(task.file + task.ordinary + task.new) == sorted(ROWS)
    out = {label for _, label in task.new}
    assert len(out) == 2 and not out & {label for _, label in task.file + task.ordinary}
    for label in set("abcdefgh") - out:
        assert sum(row[1] == label for row in task.file) == FILE * 20


def test_a_task_is_the_same_every_time(task: HeldOut):
    assert tasks.held_out("snips-b", Path("nowhere")) == task
    assert tasks.held_out("snips-a", Path("nowhere")).file != task.file


def test_what_was_chosen_on_is_not_reported_as_untouched():
    assert not set(tasks.CHOSEN_ON) & set(tasks.UNTOUCHED)


def test_kinds_are_written_otherwise(task: HeldOut):
    kinds = texts_by_kind(task, Path("nowhere"))
    ordinary, labels = kinds["ordinary"]
    assert kinds["in capitals"][0] == [text.upper() for text in ordinary]
    assert all(text.startswith("text") for text in kinds["cut in half"][0])
    dropped = sum(map(len, ordinary)) - sum(map(len, kinds["6 % of letters dropped"][0]))
    assert 0.01 < dropped / sum(map(len, ordinary)) < 0.1
    assert {name for name, (_, held) in kinds.items() if held != labels} == {"new classes", "another bot's"}
    assert foreign_word("Zoo!") == foreign_word("zoo!") == "crr!"


def requests(count: int, start: int = 0) -> Requests:
    numbers = np.arange(start, start + count)
    return Requests(numbers[:, None] * 1.0, numbers, numbers[:, None], numbers, numbers.astype(np.uint64))


def test_windows_hold_what_they_say():
    rng, ordinary, odd = np.random.default_rng(0), requests(300), requests(50, start=1000)
    world = TaskWorld("w", Reference, ordinary, ordinary, {"ordinary": ordinary, "odd": odd})  # type: ignore[arg-type]
    window = with_share(world, "odd", 200, 0.1)(rng)
    assert len(window) == 200 and (window.classes >= 1000).sum() == 20
    assert len(both(some(ordinary, 3), some(odd, 4))(rng)) == 7
    assert np.unique(repeated(ordinary, 200, 4)(rng).classes, return_counts=True)[1].min() >= 4
    assert np.bincount(hot(ordinary, 200, 0.25)(rng).classes).max() >= 50
    counts = np.sort(np.bincount(zipf(ordinary, 2000, 100, 1.0)(rng).classes))[::-1]
    assert (counts > 0).sum() <= 100 and counts[0] == pytest.approx(2 * counts[1], rel=0.5)
    assert ordinary.accuracy == 1.0


def test_judges_alarm_seldom_at_the_baselines_own_windows():
    baseline = requests(500)
    world = TaskWorld("w", Reference, baseline, baseline, {})  # type: ignore[arg-type]
    judge = above_null(world, 50, lambda window: float(window.features.mean()), 500)
    rng = np.random.default_rng(9)
    assert np.mean([judge(baseline[rng.integers(500, size=50)]) for _ in range(400)]) < 0.04
    assert judge(requests(50, start=450))


def test_a_row_is_no_pair_with_itself():
    assert unlike_pairs(np.array([[1.0, 0.2], [0.2, 1.0]])) == pytest.approx(0.2)
