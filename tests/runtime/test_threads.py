import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from runtime.threads import NICE, give_way


def nice() -> int:
    """Of the thread that asks."""
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has priorities of threads")
def test_a_thread_gives_way_and_so_do_those_that_it_starts_and_no_others():
    before, found = nice(), []

    def work() -> None:
        give_way()
        give_way()  # once more changes nothing
        found.append(nice())
        child = threading.Thread(target=lambda: found.append(nice()))
        child.start()
        child.join()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [min(19, before + NICE)] * 2
    with ThreadPoolExecutor(1) as other:
        assert other.submit(nice).result() == before
    assert nice() == before


def test_where_priorities_may_not_be_set_a_thread_works_as_it_is(monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: int) -> None:
        raise PermissionError("for a test")

    monkeypatch.setattr(os, "setpriority", refuse)
    with ThreadPoolExecutor(1, initializer=give_way) as thread:
        assert thread.submit(lambda: 3).result() == 3
