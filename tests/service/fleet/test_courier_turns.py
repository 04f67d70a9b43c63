"""What a replica tells and reads in a turn: figures and histograms in their time, and all anew where it has to."""

from pathlib import Path

import pytest

from runtime.artifact import Artifact
from runtime.graph.batch import EncodedBatch
from runtime.manifest import Manifest
from runtime.statistics.fleet import EVERYTHING, EVERYTHING_DEEP
from runtime.store.shares import Published
from service.fleet.exchange import Fetched, FleetError
from service.norm_stats.interface import AllLayers, Delivery, MergeableState, WindowQuery
from service.settings import Settings
from tests.service.fleet.bus import Bus, Replica, ask


def test_figures_come_every_second_and_histograms_every_ten(
    artifact: Artifact, batches: list[EncodedBatch], now: list[float]
):
    bus = Bus()
    one, other = (Replica(artifact, bus, now) for _ in range(2))
    for _ in range(3):
        one.collector.observe(batches[2], 0.0)
        one.turn()
        other.turn()
        now[0] += 1.0
    answer = ask(other.collector, MergeableState(WindowQuery("all", scope="fleet")))["state"]
    assert answer["requests"] == sum(answer["traffic"]["counts"]) == 21
    assert answer["moments"]["count"][0] > sum(answer["histograms"]["counts"]) / 4 / 2  # of the first seven requests
    now[0] += 10.0
    one.turn()
    other.turn()
    answer = ask(other.collector, MergeableState(WindowQuery("all", scope="fleet")))["state"]
    assert sum(answer["histograms"]["counts"]) == sum(answer["moments"]["count"])


def test_histograms_are_told_at_once_where_nothing_comes_or_all_ends(
    artifact: Artifact, batches: list[EncodedBatch], now: list[float]
):
    """A replica may end any time: killed a second after its last answer it has told all."""
    bus = Bus()
    replicas = [Replica(artifact, bus, now) for _ in range(3)]
    quiet, stopped, reader = replicas
    for replica in replicas:
        replica.turn()
    now[0] += 1.0
    for replica in (quiet, stopped):
        replica.collector.observe(batches[2], 0.0)
        replica.turn()
    now[0] += 0.5
    stopped.collector.observe(batches[1], 0.0)
    stopped.courier.turn(last=True)
    now[0] += 0.5
    quiet.turn()
    reader.turn()
    state = ask(reader.collector, MergeableState(WindowQuery("all", scope="fleet")))["state"]
    assert state["requests"] == 7 + 7 + 3
    assert sum(state["histograms"]["counts"]) == sum(state["moments"]["count"]) > 0


def test_store_that_lost_everything_is_told_all_again(
    artifact: Artifact, batches: list[EncodedBatch], now: list[float]
):
    bus = Bus()
    one = Replica(artifact, bus, now)
    for _ in range(5):
        one.collector.observe(batches[1], 0.0)
        one.turn()
        now[0] += 400.0
    before = set(bus.places(artifact.manifest.digest))
    bus.lose()
    one.turn()
    assert set(bus.places(artifact.manifest.digest)) == before
    late = Replica(artifact, bus, now)
    late.turn()
    assert ask(late.collector, AllLayers(WindowQuery("24h")))["window"]["requests"] == 15


def test_all_is_told_and_read_anew_until_it_was_told_whole(
    artifact: Artifact, batches: list[EncodedBatch], now: list[float], monkeypatch: pytest.MonkeyPatch
):
    """The store has lost all, and is away again before it was told all."""
    bus, read = Bus(), []
    one = Replica(artifact, bus, now)
    one.collector.observe(batches[1], 0.0)
    one.turn()
    bus.lose()
    push, fetch, pushes = bus.push, bus.fetch, [0]

    def failing(manifest: Manifest, published: Published) -> bool:
        pushes[0] += 1
        if pushes[0] == 2:
            raise FleetError("away again")
        return push(manifest, published)

    def reading(manifest: Manifest, own: str, everything: bool) -> Fetched:
        read.append(everything)
        return fetch(manifest, own, everything)

    monkeypatch.setattr(bus, "push", failing)
    monkeypatch.setattr(bus, "fetch", reading)
    one.turn()
    assert not bus.places(artifact.manifest.digest)
    one.turn()
    assert (EVERYTHING, 0) in bus.places(artifact.manifest.digest) and read == [True]


def test_restarted_replica_that_goes_on_from_disk_is_not_counted_twice(
    artifact: Artifact, batches: list[EncodedBatch], now: list[float], tmp_path: Path
):
    bus, settings = Bus(), Settings(store="redis://bus", device="cpu", state=tmp_path)
    other = Replica(artifact, bus, now)
    for start in range(3):
        replica = Replica(artifact, bus, now, settings)
        replica.collector.recorder.since = min(replica.collector.recorder.since, now[0])
        replica.collector.observe(batches[1], 0.0)
        replica.turn()
        other.turn()
        assert ask(other.collector, AllLayers(WindowQuery("all")))["requests"] == 3 * (start + 1)
        replica.collector.keep()
        replica.collector.close()
        now[0] += 2.0
    assert ask(other.collector, AllLayers(WindowQuery("all")))["fleet"]["replicas"] == 2


def test_file_that_is_taken_over_late_is_told_in_the_place_of_its_service(
    artifact: Artifact, batches: list[EncodedBatch], now: list[float], tmp_path: Path
):
    """A rolling restart: the old service ends, and the new one, which has told already, goes on with its counts."""
    bus, settings = Bus(), Settings(store="redis://bus", device="cpu", state=tmp_path)
    old, reader = Replica(artifact, bus, now, settings), Replica(artifact, bus, now)
    old.collector.observe(batches[2], 0.0)
    old.collector.keep()
    old.turn()
    new = Replica(artifact, bus, now, settings)  # the old one holds the file
    now[0] += 400.0
    new.collector.observe(batches[1], 0.0)
    new.turn()
    old.collector.close()
    new.collector.keep()
    new.collector.observe(batches[0], 0.0)
    now[0] += 11.0
    for replica in (new, reader):
        replica.turn()
    answer = ask(reader.collector, AllLayers(WindowQuery("1h")))
    assert (answer["requests"], answer["window"]["requests"], answer["fleet"]["replicas"]) == (11, 11, 2)


def test_questions_between_the_parts_of_what_others_told_are_answered(
    artifact: Artifact, batches: list[EncodedBatch], now: list[float]
):
    """A replica that starts reads a day in parts, and the totals in the last one."""
    bus = Bus()
    one, new = (Replica(artifact, bus, now) for _ in range(2))
    for _ in range(3):
        one.collector.observe(batches[2], 0.0)
        now[0] += 400.0
    one.turn()
    new.collector.observe(batches[0], 0.0)
    deliver, answers = new.pool.deliver, []

    def in_parts(digest: str, delivery: Delivery) -> None:
        totals = (EVERYTHING, EVERYTHING_DEEP)
        places = sorted(delivery.contents, key=lambda place: (place[0] in totals, place[0] != "window-300"))
        for place in places:
            deliver(digest, delivery._replace(contents={place: delivery.contents[place]}))
            answers.append(ask(new.collector, AllLayers(WindowQuery("auto"))))

    new.pool.deliver = in_parts  # type: ignore[method-assign]
    new.turn()
    assert len(answers) > 3
    assert answers[-1]["requests"] == ask(new.collector, AllLayers(WindowQuery("all")))["requests"] == 22


def test_what_is_not_open_any_more_is_forgotten_by_the_exchange(
    artifact: Artifact, now: list[float], monkeypatch: pytest.MonkeyPatch
):
    bus, forgotten = Bus(), list[str]()
    one = Replica(artifact, bus, now)
    monkeypatch.setattr(bus, "forget", forgotten.append)
    one.turn()
    assert not forgotten
    one.pool._open = {}
    one.turn()
    one.turn()
    assert forgotten == [artifact.manifest.digest]
