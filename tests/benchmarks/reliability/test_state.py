"""Damages change what they are given; a service is damaged, orphaned and asked for everything, once each."""

import random

import pytest

from benchmarks.reliability import soak as soaking
from benchmarks.reliability.__main__ import faults_of
from benchmarks.reliability.soak import growth, soak
from benchmarks.reliability.state import DAMAGES, damaged, full, orphaned


@pytest.mark.parametrize("number", range(len(DAMAGES)))
def test_damage_is_done(number: int):
    content = bytes(range(1, 256)) * 100
    assert DAMAGES[number](random.Random(number), content) != content


def test_service_starts_on_a_damaged_state():
    found = damaged(2)
    assert faults_of("damaged", found) == []
    assert found["counts kept"] + found["counts set aside"] == 2


def test_full_disk_is_told_and_counts_are_written_later():
    found = full(10)
    assert faults_of("full", found) == []
    assert found["without a small disk"] or found["counts kept"] == 30


def test_workers_end_with_their_supervisor():
    found = orphaned(1)
    assert faults_of("orphaned", found) == []
    assert found["supervisors killed"] == 1


def test_everything_is_asked_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(soaking, "WARM", 1.0)
    found = soak(1)
    assert [fault for fault in faults_of("soak", found) if fault != "grows"] == []  # it has hardly begun
    assert found["answered"] > 10 and found["left"] > 0


def test_growth_is_from_the_first_third_to_the_last():
    assert growth([50.0, 51.0, 90.0, 50.0, 61.0, 62.0]) == {"MiB in the end": 62, "MiB grown": 11, "grows": 1}
    assert growth([50.0] * 5)["grows"] == 0
