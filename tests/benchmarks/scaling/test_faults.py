"""A report names a killed replica or not; hosts are cut off and joined, and leave nothing behind."""

import json
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from benchmarks.scaling.faults import named_silent
from benchmarks.scaling.fleet import questions
from benchmarks.scaling.network import NETNS, missing, network

KILLED = datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp()


def status(heard: float, age: float, silent: int = 1) -> dict[str, Any]:
    heard_at = datetime.fromtimestamp(heard, UTC).isoformat(timespec="seconds")
    return {"silent": silent, "others": [{"name": "host:8302", "heard": heard_at, "age_seconds": age}]}


def test_a_silent_replica_is_named_since_it_was_killed():
    assert named_silent(status(KILLED - 1, 7.0), 8302, KILLED).held


@pytest.mark.parametrize(
    ("told", "port"),
    [
        (status(KILLED - 1, 7.0), 8303),
        (status(KILLED - 30, 37.0), 8302),
        (status(KILLED + 4, 2.0), 8302),
        (status(KILLED - 1, 7.0, silent=0), 8302),
    ],
)
def test_anything_else_fails(told: dict[str, Any], port: int):
    assert not named_silent(told, port, KILLED).held


def test_questions_begin_again_where_there_are_too_few(tmp_path: Path):
    (tmp_path / "clinc150").mkdir()
    (tmp_path / "clinc150" / "data_full.json").write_text(json.dumps({"test": [["one", "a"], ["two", "b"]]}))
    assert questions(tmp_path, 3) == ["one", "two", "one"]


@pytest.mark.skipif(bool(reason := missing()), reason=reason or "nothing is missing")
def test_hosts_reach_one_another_until_one_is_cut_off():
    with network("test", 3) as net:
        with net.inside(1):
            listening = socket.create_server((net.address(1), 8399))
        with listening:
            with net.inside(2):
                socket.create_connection((net.address(1), 8399), timeout=2).close()
            net.set_plug(1, up=False)
            with net.inside(2), pytest.raises(OSError):
                socket.create_connection((net.address(1), 8399), timeout=0.3)
            with net.inside(1):  # itself it reaches
                socket.create_connection((net.address(1), 8399), timeout=2).close()
    assert not any(NETNS.joinpath(net.namespace(host)).exists() for host in range(3))


@pytest.mark.skipif(bool(reason), reason=reason or "nothing is missing")
def test_nothing_is_left_after_a_failure():
    with pytest.raises(KeyboardInterrupt), network("failure", 2) as net:
        raise KeyboardInterrupt
    assert not NETNS.joinpath(net.namespace(0)).exists()
