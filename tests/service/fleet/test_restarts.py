"""Restarts, and files that are taken over late or cannot be written: nobody counts anything twice at any time."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtime.artifact import Artifact
from runtime.graph.batch import EncodedBatch
from runtime.graph.encoder import Encoder
from runtime.graph.texts import make_input_encoder
from runtime.store.shares import Published
from runtime.store.sqlite import StateStore
from service.fleet.courier import WITHHELD
from service.norm_stats.interface import AllLayers, Shared, TakeBaseline, WindowQuery
from service.settings import Settings
from tests.helpers import TEXTS
from tests.service.fleet.bus import MIDNIGHT, Bus, Replica, unlike

Start = Callable[[], Replica]


@pytest.fixture(scope="module")
def batch(artifact: Artifact) -> EncodedBatch:
    return Encoder(artifact).run([item.tokens for item in make_input_encoder(artifact).encode(TEXTS[:3])])


@pytest.fixture
def bus() -> Bus:
    return Bus()


@pytest.fixture
def other(artifact: Artifact, bus: Bus, now: list[float]) -> Replica:
    """A replica that keeps nothing, and hears of the others."""
    return Replica(artifact, bus, now)


@pytest.fixture
def start(artifact: Artifact, bus: Bus, now: list[float], tmp_path: Path) -> Start:
    """Starts a service that goes on from what its last start has left."""
    settings = Settings(store="redis://bus", device="cpu", state=tmp_path)
    return lambda: Replica(artifact, bus, now, settings)


def report(replica: Replica) -> Any:
    return json.loads(replica.collector.report(AllLayers(WindowQuery("all"))))


def killed(replica: Replica) -> None:
    """Lets the file go without a word."""
    replica.collector.store._disconnect()


def kept_and_told(replica: Replica, batch: EncodedBatch, times: int = 1) -> None:
    for _ in range(times):
        replica.collector.observe(batch, 0.0)
    replica.collector.keep()
    replica.turn()


def full(*_: object) -> None:
    raise OSError("No space left on device")


def test_counts_from_a_file_that_cannot_name_this_start_are_told_once_it_can(
    start: Start, other: Replica, batch: EncodedBatch, monkeypatch: pytest.MonkeyPatch
):
    first = start()
    kept_and_told(first, batch)
    killed(first)
    with monkeypatch.context() as patched:
        patched.setattr(StateStore, "_write", full)
        second = start()
        kept_and_told(second, batch)
        other.turn()
        assert report(other)["requests"] == 3 and report(other)["fleet"]["replicas"] == 2
        answer = report(second)
        assert (answer["requests"], answer["fleet"]["trouble"]) == (6, WITHHELD)
        killed(second)  # it dies: the file still names the first start alone
    third = start()
    kept_and_told(third, batch)
    other.turn()
    third.turn()
    assert report(third)["requests"] == report(other)["requests"] == 6
    assert report(third)["fleet"]["trouble"] == ""


def test_disk_that_is_free_again_ends_the_silence(
    start: Start, other: Replica, batch: EncodedBatch, monkeypatch: pytest.MonkeyPatch
):
    first = start()
    kept_and_told(first, batch)
    killed(first)
    with monkeypatch.context() as patched:
        patched.setattr(StateStore, "_write", full)
        second = start()
        kept_and_told(second, batch)
    second.collector.keep()
    second.turn()
    other.turn()
    assert report(other)["requests"] == 6 and report(second)["fleet"]["trouble"] == ""


def test_replica_that_asks_is_told_nothing_meanwhile_and_all_afterwards(
    start: Start, batch: EncodedBatch, monkeypatch: pytest.MonkeyPatch
):
    first = start()
    kept_and_told(first, batch)
    killed(first)
    with monkeypatch.context() as patched:
        patched.setattr(StateStore, "_write", full)
        second = start()
        answer = Published.unpack(second.collector.report(Shared("", 0)), "it")
        assert (answer.replica.replaces, answer.replica.sequence, list(answer.shares)) == ((), 0, [])
    second.collector.keep()
    answer = Published.unpack(second.collector.report(Shared(answer.replica.id, answer.replica.sequence)), "it")
    assert answer.replica.replaces == (first.collector.fleet.publication.id,) and answer.shares


def test_file_names_a_start_as_soon_as_it_has_gone_on_from_it(start: Start, batch: EncodedBatch):
    first = start()
    kept_and_told(first, batch)
    killed(first)
    second = start()  # and dies before a second has passed
    killed(second)
    third = start()
    assert third.collector.fleet.publication.replaces == second.collector.fleet.publication.counted


def test_who_was_replaced_does_not_count_again_when_its_heir_is_forgotten(
    start: Start, other: Replica, batch: EncodedBatch, bus: Bus, artifact: Artifact
):
    """Shelves of other replicas hold its shares on."""
    first = start()
    kept_and_told(first, batch)
    killed(first)
    second = start()
    kept_and_told(second, batch)
    other.turn()
    del bus.met[artifact.manifest.digest, second.collector.fleet.publication.id]
    other.turn()
    assert report(other)["requests"] == 6


def test_artifact_that_is_served_again_is_told_and_hears_all(artifact: Artifact, other: Replica, batch: EncodedBatch):
    """Its collector was closed meanwhile: another one counts from nothing, with another name."""
    other.collector.observe(batch, 0.0)
    other.turn()
    bus = other.courier.exchange
    assert isinstance(bus, Bus)
    again = Replica(artifact, bus, [MIDNIGHT])
    for _ in range(4):
        again.collector.observe(batch, 0.0)
        again.turn()
    again.pool._open = {}
    again.turn()
    again.collector = again.pool.open(artifact)
    again.collector.observe(batch, 0.0)
    again.turn()
    other.turn()
    assert report(again)["requests"] == report(other)["requests"] == 3 + 4 * 3 + 3


def test_late_file_brings_no_baseline_back_that_the_fleet_has_left(
    start: Start, other: Replica, batch: EncodedBatch, now: list[float]
):
    """The old service ends after the fleet's baselines have changed: the file has older ones than are in force."""
    old = start()
    for _ in range(40):
        old.collector.observe(unlike(batch), 0.0)
    old.collector.report(TakeBaseline(WindowQuery("all", scope="replica")))
    kept_and_told(old, batch)
    new = start()  # the old one has the file
    for replica in (new, other):
        replica.turn()
    now[0] += 400.0
    for _ in range(50):
        other.collector.observe(unlike(batch), 0.0)
    taken = json.loads(other.collector.report(TakeBaseline(WindowQuery("5m", scope="replica"))))
    for replica in (other, new):
        replica.turn()
    killed(old)
    new.collector.keep()
    assert not new.collector.store.unread
    assert report(new)["baseline"] == report(other)["baseline"] == taken["baseline"]
    assert new.collector.baselines.taken == other.collector.baselines.taken
    assert len(new.collector.baselines.taken.contents) == taken["kept"] == 2


def test_late_file_goes_below_what_was_taken_meanwhile_and_all_are_told(
    start: Start, other: Replica, batch: EncodedBatch
):
    """The new service had heard of no baseline when it took one."""
    old = start()
    for _ in range(40):
        old.collector.observe(unlike(batch), 0.0)
    old.collector.report(TakeBaseline(WindowQuery("all", scope="replica")))
    old.collector.keep()
    new = start()
    for _ in range(50):
        new.collector.observe(unlike(batch), 0.0)
    for _ in range(2):
        taken = json.loads(new.collector.report(TakeBaseline(WindowQuery("all", scope="replica"))))
    for replica in (new, other):
        replica.turn()
    killed(old)
    kept_and_told(new, batch)
    other.turn()
    for replica in (new, other):
        assert report(replica)["baseline"] == taken["baseline"]
        assert len(replica.collector.baselines.taken.contents) == 3
