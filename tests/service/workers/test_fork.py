import logging
import os
import socket
import time
from pathlib import Path

import pytest

from service.norm_stats.pool import CollectorPool
from service.settings import Settings
from service.workers.channel import SupervisorEnd
from service.workers.fleet import FleetProcess
from service.workers.fork import Restarts, Selector, describe_exit, restart_delay


def test_worker_starts_at_once_and_ever_later_where_it_falls():
    assert [restart_delay(falls) for falls in (0, 1, 2, 3, 4, 5, 6, 100)] == [0, 1, 2, 4, 8, 16, 30, 30]


@pytest.mark.parametrize(("exitcode", "how"), [(-9, "signal 9"), (2, "exit code 2"), (0, "exit code 0")])
def test_end_is_told(exitcode: int, how: str):
    assert describe_exit(exitcode) == how


def test_slots_fall_from_the_second_time_on_until_a_worker_was_steady():
    restarts = Restarts()
    for slot, fell, falling in ((0, True, set()), (1, True, set()), (1, True, {1}), (1, True, {1}), (1, False, set())):
        restarts.note(slot, fell)
        assert restarts.falling == falling


def opened() -> int:
    return len(list(Path("/dev/fd").iterdir()))


def test_channel_that_cannot_be_opened_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch):
    def refuse() -> None:
        raise OSError(24, "Too many open files")

    before = opened()
    monkeypatch.setattr(socket, "socketpair", refuse)
    with pytest.raises(OSError, match="Too many open files"):
        SupervisorEnd(2)
    assert opened() == before


def test_process_that_exchanges_statistics_is_tried_again_where_it_cannot_be_started(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def refuse() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    settings, selector = Settings(peers="127.0.0.1:9"), Selector()
    fleet, before = FleetProcess(settings, CollectorPool(settings, 2), selector, list), opened()
    with monkeypatch.context() as patched, caplog.at_level(logging.ERROR):
        patched.setattr(os, "fork", refuse)
        for _ in range(3):
            fleet.keep_running()
    assert caplog.text.count("cannot be started (Resource temporarily unavailable)") == 1, "not every second"
    assert opened() == before and fleet.process is None and fleet.closing == []
    fleet.keep_running()
    assert fleet.process is not None and fleet.process.is_alive()
    fleet.process.kill()
    fleet.wanted, deadline = False, time.monotonic() + 10
    while fleet.process is not None and time.monotonic() < deadline:
        selector.turn(0.1)
    assert fleet.process is None
