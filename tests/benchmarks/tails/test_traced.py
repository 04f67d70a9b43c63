"""Notes of a trace: what is noted, kept, written and read again."""

import gc
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.tails.traced import LEAST, TRACED, Note, Ring, Steps, read_trace, timed, trace_garbage


def ticking(step: float) -> Any:
    """A clock that goes on by so many seconds whenever it is read."""
    now = [100.0]

    def clock() -> float:
        now[0] += step
        return now[0]

    return clock


def test_what_takes_long_is_noted_with_its_time_and_result() -> None:
    ring = Ring(8)
    assert timed(ring, "slow", lambda x, y: x + y, ticking(0.5))(1, y=2) == 3
    (note,) = ring.notes()
    assert (note.name, note.start, note.seconds, note.in_loop) == ("slow", 100.5, 0.5, True)
    assert 0 <= note.cpu < 0.1


def test_what_raises_is_noted_and_raises() -> None:
    ring = Ring(8)

    def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        timed(ring, "fails", fail, ticking(0.5))()
    assert [note.name for note in ring.notes()] == ["fails"]


def test_what_is_short_is_not_noted() -> None:
    ring = Ring(8)
    timed(ring, "short", int, ticking(LEAST / 2))()
    assert ring.notes() == []


def test_a_note_of_a_thread_says_so() -> None:
    ring = Ring(8)
    thread = threading.Thread(target=timed(ring, "beside", int, ticking(0.5)))
    thread.start()
    thread.join()
    assert [note.in_loop for note in ring.notes()] == [False]


def test_the_newest_notes_are_kept() -> None:
    ring = Ring(3)
    for number in range(1, 6):
        ring.note(f"n{number % 2}", float(number), 0.1, 0.0)
    assert [(note.name, note.start) for note in ring.notes()] == [("n1", 3.0), ("n0", 4.0), ("n1", 5.0)]


def test_a_trace_is_read_as_it_was_written(tmp_path: Path) -> None:
    ring = Ring(4)
    ring.facts["max_batch_tokens"] = 256
    ring.note("batch", 2.0, 0.25, 0.125, others=0.0625, rows=3, tokens=20)
    ring.note("fold", 1.0, 0.5, 0.5)
    ring.write(tmp_path / "trace.jsonl")
    facts, notes = read_trace(tmp_path / "trace.jsonl")
    assert facts["max_batch_tokens"] == 256
    assert notes == [Note("fold", 1.0, 0.5, 0.5), Note("batch", 2.0, 0.25, 0.125, True, 0.0625, 3, 20)]


class Pause:
    def __await__(self) -> Generator[str, str, str]:
        return (yield "paused")


async def two_steps(fail: bool) -> str:
    time.sleep(2 * LEAST)
    try:
        answer = await Pause()
    except ValueError:
        return "mended"
    time.sleep(2 * LEAST)
    if fail:
        raise KeyError("x")
    return answer


def test_steps_of_a_coroutine_are_noted_one_by_one_without_the_pause() -> None:
    ring = Ring(8)
    steps = Steps(ring, "step", two_steps(False)).__await__()
    assert next(steps) == "paused"
    time.sleep(0.05)
    with pytest.raises(StopIteration) as end:
        steps.send("went on")
    assert end.value.value == "went on"
    first, second = ring.notes()
    assert second.start - first.start - first.seconds >= 0.05


def test_steps_pass_errors_both_ways() -> None:
    steps = Steps(Ring(8), "step", two_steps(False)).__await__()
    next(steps)
    with pytest.raises(StopIteration) as end:
        steps.throw(ValueError())
    assert end.value.value == "mended"
    steps = Steps(Ring(8), "step", two_steps(True)).__await__()
    next(steps)
    with pytest.raises(KeyError):
        steps.send("went on")


def test_collections_of_garbage_are_noted_by_generation() -> None:
    ring = Ring(8)
    called = trace_garbage(ring, ticking(0.5))
    gc.callbacks.append(called)
    try:
        gc.collect(1)
    finally:
        gc.callbacks.remove(called)
    assert [(note.name, note.seconds) for note in ring.notes()] == [("collect garbage, generation 1", 0.5)]


def test_everything_that_is_traced_is_there() -> None:
    assert all(callable(getattr(place, attribute)) for place, attribute, _ in TRACED)
    names = [name for _, _, name in TRACED]
    assert len(set(names)) == len(names)
