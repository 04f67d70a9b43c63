"""Mutated streams against a service in this process, and what the campaign takes for a fault."""

import asyncio
from collections import Counter

import pytest

from benchmarks.reliability.__main__ import faults_of
from benchmarks.reliability.streams import check, run
from tests.live import Live

ANSWER = b"HTTP/1.1 200 OK\r\nx-request-id: %s\r\ncontent-length: %d\r\n\r\n%s"


def answer(name: bytes, rows: int) -> bytes:
    body = b'{"predictions": [%s]}' % b", ".join([b"{}"] * rows)
    return ANSWER % (name, len(body), body)


def test_mutated_streams_are_answered_or_refused(live: Live, caplog: pytest.LogCaptureFixture):
    found = asyncio.run(run(int(live.address.rpartition(":")[2]), 200, seed=3))
    assert found["streams"] == 200 and found["answers"] > 100
    assert faults_of("streams", found) == []
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize(
    ("came", "faults"),
    [
        (answer(b"a", 1) + answer(b"b", 2), []),
        (answer(b"a", 1), []),
        (answer(b"b", 2) + answer(b"a", 1), ["wrong pairings"]),
        (answer(b"a", 2), ["wrong pairings"]),
        (answer(b"stream-9-9", 1), ["wrong pairings"]),
        (b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n", ["5xx", "whole streams refused"]),
        (b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", ["answers that are no HTTP"]),
    ],
)
def test_faults_are_found(came: bytes, faults: list[str]):
    found = Counter[str]()
    check(came, {"a": 1, "b": 2}, False, found)
    assert sorted(faults_of("streams", found)) == faults


def test_broken_requests_are_a_fault_unless_their_worker_was_killed():
    assert faults_of("rolls", Counter(broken=1)) == ["broken"] and faults_of("kills", Counter(broken=9)) == []
    assert faults_of("swaps", Counter({"status 500": 1, "answered": 5})) == ["status 500"]
