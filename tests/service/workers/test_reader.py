"""Jobs in processes of their own: their results, their deadline, and what is left of them."""

import errno
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtime.errors import Unavailable
from service.workers.fork import Selector
from service.workers.reader import Reader


def run(*jobs: Callable[[], object], patience: float = 20.0) -> list[Any]:
    """What each job gives, in the order of their ends; a parent does something else meanwhile."""
    selector, found = Selector(), list[Any]()
    reader = Reader(selector, list, patience)
    for job in jobs:
        reader.run(job, found.append)
    deadline = time.monotonic() + 20
    while (len(found) < len(jobs) or selector._everything.get_map()) and time.monotonic() < deadline:
        selector.turn(min(reader.due, time.monotonic() + 0.05) - time.monotonic())
        reader.turn(time.monotonic())
    assert reader.jobs == [] and not multiprocessing.active_children()
    return found


def test_results_come_as_they_are_done() -> None:
    def slow() -> str:
        time.sleep(0.3)
        return "slow"

    large = os.urandom(5 << 20)
    assert run(slow, lambda: large, lambda: 3 / 4) in (
        [large, 0.75, "slow"],
        [0.75, large, "slow"],
    )


def test_job_that_hangs_is_ended() -> None:
    started = time.monotonic()
    hung, quick = run(lambda: time.sleep(60), lambda: time.sleep(0.1), patience=0.5)[::-1]
    assert quick is None and isinstance(hung, Unavailable) and "within 0.5 s" in str(hung)
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("end", [lambda: os._exit(3), lambda: os.kill(os.getpid(), 9)])
def test_job_that_ends_before_its_result_is_told(end: Callable[[], object]) -> None:
    (found,) = run(end)
    assert isinstance(found, Unavailable) and "ended before" in str(found)


def test_job_that_cannot_be_started_is_told_and_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    before = len(list(Path("/dev/fd").iterdir()))
    with monkeypatch.context() as patched:
        patched.setattr(os, "fork", refuse)
        found = run(*[lambda: 1] * 20)
    assert [type(each) for each in found] == [Unavailable] * 20
    assert "No process to read the disk can be started (Resource temporarily unavailable)" in str(found[0])
    assert len(list(Path("/dev/fd").iterdir())) < before + 20, "a fork takes four"


def test_job_that_hangs_is_ended_with_its_parent() -> None:
    reader = Reader(Selector(), list, 60.0)
    reader.run(lambda: time.sleep(60), lambda _: None)
    reader.close()
    reader.jobs[0].process.join(10)
    assert reader.jobs[0].process.exitcode == -9
