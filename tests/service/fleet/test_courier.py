"""Replicas that exchange their statistics answer as one service that has seen everything."""

import json
import logging
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from runtime.artifact import Artifact, read_artifact
from runtime.errors import InvalidInput
from runtime.graph.batch import EncodedBatch
from runtime.graph.encoder import Encoder
from runtime.graph.texts import make_input_encoder
from runtime.manifest import Manifest
from runtime.statistics.fleet import EVERYTHING, EVERYTHING_DEEP
from runtime.store.shares import WHOLE, Published, Share
from service.fleet.courier import SKEW
from service.fleet.exchange import Fetched, FleetError
from service.norm_stats.collector import Collector
from service.norm_stats.interface import (
    AllLayers,
    Delivery,
    DropBaseline,
    History,
    MergeableState,
    OneLayer,
    Query,
    TakeBaseline,
    WindowQuery,
)
from service.settings import EMBEDDED, TWIN, Settings
from tests.helpers import TEXTS, assert_same
from tests.service.fleet.bus import MIDNIGHT, Bus, Replica


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    """The embedded model: its baseline can judge."""
    return read_artifact(EMBEDDED)


@pytest.fixture(scope="module")
def batches(artifact: Artifact) -> list[EncodedBatch]:
    return run(artifact, 1, 3, 7, 20)


def run(artifact: Artifact, *rows: int) -> list[EncodedBatch]:
    encoder = Encoder(artifact)
    tokens = [item.tokens for item in make_input_encoder(artifact).encode(TEXTS)]
    return [encoder.run(tokens[each : 2 * each]) for each in rows]


@pytest.fixture
def now() -> list[float]:
    return [MIDNIGHT + 3.0]


def ask(collector: Collector, query: Query) -> Any:
    return json.loads(collector.report(query))


def alone(artifact: Artifact, now: list[float]) -> Collector:
    collector = Collector(artifact, Settings(device="cpu"))
    collector.recorder.clock, collector.recorder.since = (lambda: now[0]), now[0]
    return collector


def without_costs(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name not in ("overhead_ratio", "fleet")}


def assert_one_service(replica: Collector, whole: Collector) -> None:
    """Whatever is asked: all layers, one, the history, the state; of the hour, the day and all time."""
    name = whole.manifest.layer_names[1]
    for window in ("auto", "5m", "1h", "24h", "all"):
        query = WindowQuery(window)
        for each in (AllLayers(query), OneLayer(query, name)):
            assert_same(without_costs(ask(replica, each)), without_costs(ask(whole, each)))
        state = ask(replica, MergeableState(query._replace(scope="fleet")))
        assert_same(state, ask(whole, MergeableState(query)))
    assert_same(ask(replica, History(WindowQuery("24h"))), ask(whole, History(WindowQuery("24h"))))


@pytest.mark.parametrize("seed", range(6))
def test_lost_doubled_late_and_reordered_pushes_change_nothing(
    artifact: Artifact, batches: list[EncodedBatch], now: list[float], seed: int
):
    random = Random(seed)
    bus = Bus(random)
    replicas = [Replica(artifact, bus, now) for _ in range(3)]
    whole = alone(artifact, now)
    for _ in range(60):
        batch = random.choice(batches)
        random.choice(replicas).collector.observe(batch, 0.01)
        whole.observe(batch, 0.01)
        now[0] += random.choice([0.5, 4.0, 11.0, 200.0])
        random.choice(replicas).turn()
    bus.random = None
    for write in random.sample(bus.late, len(bus.late)):
        bus.write(write)
    now[0] += 11.0  # histograms come every ten seconds
    for replica in [*replicas, *replicas]:
        replica.turn()
    for replica in replicas:
        assert_one_service(replica.collector, whole)


def test_batch_norms_features_are_shared(now: list[float]):
    artifact, bus = read_artifact(TWIN), Bus()
    one, other = (Replica(artifact, bus, now) for _ in range(2))
    whole = alone(artifact, now)
    for replica, batch in zip((one, other, one), run(artifact, 20, 11, 9), strict=True):
        replica.collector.observe(batch, 0.0)
        whole.observe(batch, 0.0)
    for replica in (one, other, one):
        replica.turn()
    assert_one_service(one.collector, whole)
    assert ask(one.collector, AllLayers(WindowQuery("all")))["layers"][0]["live"]["features"] is not None


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


def test_replica_goes_on_alone_says_so_and_catches_up(
    artifact: Artifact, batches: list[EncodedBatch], now: list[float], caplog: pytest.LogCaptureFixture
):
    bus = Bus()
    one, other = (Replica(artifact, bus, now) for _ in range(2))
    for replica in (one, other, one):
        replica.collector.observe(batches[1], 0.0)
        replica.turn()
    bus.down = True
    for _ in range(25):
        now[0] += 1.0
        one.collector.observe(batches[0], 0.0)
        one.turn()
    answer = ask(one.collector, AllLayers(WindowQuery("all")))
    assert answer["requests"] == 6 + 3 + 25  # its own, and what is known of the other
    assert answer["fleet"]["trouble"] == "the bus is down" and answer["fleet"]["oldest_push_seconds"] >= 25
    assert (answer["fleet"]["replicas"], answer["fleet"]["silent"]) == (2, 1)
    assert caplog.text.count("the bus is down") == 1
    bus.down = False
    with caplog.at_level(logging.INFO):
        for replica in (one, other, one):
            replica.turn()
    for replica in (one, other):
        answer = ask(replica.collector, AllLayers(WindowQuery("all")))
        assert (answer["requests"], answer["fleet"]["trouble"]) == (34, "")
    assert "all replicas are heard of again" in caplog.text


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


def test_dead_replica_counts_and_its_silence_is_said(artifact: Artifact, batches: list[EncodedBatch], now: list[float]):
    bus = Bus()
    dead, left = (Replica(artifact, bus, now) for _ in range(2))
    dead.collector.observe(batches[2], 0.0)
    dead.turn()
    now[0] += 60.0
    left.turn()
    answer = ask(left.collector, AllLayers(WindowQuery("all")))
    assert answer["requests"] == 7 and answer["fleet"]["silent"] == 1
    (silent,) = answer["fleet"]["others"]
    assert silent["heard"] == "2025-11-26T00:00:03+00:00" and silent["age_seconds"] == 60.0


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


def test_baseline_of_one_replica_holds_on_all(artifact: Artifact, batches: list[EncodedBatch], now: list[float]):
    bus = Bus()
    replicas = [Replica(artifact, bus, now) for _ in range(3)]
    for _ in range(8):
        for replica in replicas:
            replica.collector.observe(batches[3], 0.0)

    def sources() -> list[str]:
        for replica in [*replicas, *replicas]:
            replica.turn()
        return [ask(each.collector, AllLayers(WindowQuery("all")))["baseline"]["source"] for each in replicas]

    assert sources() == ["validation"] * 3
    assert ask(replicas[1].collector, TakeBaseline(WindowQuery("all")))["baseline"]["requests"] == 384  # of all three
    assert sources() == ["live"] * 3
    ask(replicas[2].collector, TakeBaseline(WindowQuery("all", scope="replica")))
    ask(replicas[2].collector, DropBaseline())
    assert sources() == ["live"] * 3
    ask(replicas[0].collector, DropBaseline())
    assert sources() == ["validation"] * 3


def test_states_of_two_replicas_add_up_to_the_fleets(artifact: Artifact, batches: list[EncodedBatch], now: list[float]):
    """`addnorm stats merge` asks each for its own: nothing counts twice."""
    bus = Bus()
    replicas = [Replica(artifact, bus, now) for _ in range(2)]
    for replica in [*replicas, *replicas]:
        replica.collector.observe(batches[1], 0.0)
        replica.turn()
    own = [ask(each.collector, MergeableState(WindowQuery()))["state"]["requests"] for each in replicas]
    assert own == [6, 6]
    replicas[0].turn()
    assert ask(replicas[0].collector, MergeableState(WindowQuery(scope="fleet")))["state"]["requests"] == 12


def test_scope_of_the_replica_alone_and_of_none(artifact: Artifact, batches: list[EncodedBatch], now: list[float]):
    bus = Bus()
    one, other = (Replica(artifact, bus, now) for _ in range(2))
    for replica in (one, other, one):
        replica.collector.observe(batches[1], 0.0)
        replica.turn()
    answer = ask(one.collector, AllLayers(WindowQuery("all", scope="replica")))
    assert (answer["requests"], answer["fleet"]["scope"]) == (6, "replica")
    with pytest.raises(InvalidInput, match="scope is 'world', expected fleet or replica"):
        ask(one.collector, AllLayers(WindowQuery("all", scope="world")))
    with pytest.raises(InvalidInput, match="knows no other replicas"):
        ask(alone(artifact, now), AllLayers(WindowQuery("all", scope="fleet")))
    assert "fleet" not in ask(alone(artifact, now), AllLayers(WindowQuery("all")))


def test_what_cannot_be_used_is_left_out_and_said(
    artifact: Artifact,
    feature_artifact: Artifact,
    batches: list[EncodedBatch],
    now: list[float],
    caplog: pytest.LogCaptureFixture,
):
    """Garbage, and a state of another artifact, under the names of replicas that never were."""
    bus = Bus()
    one, stranger = Replica(artifact, bus, now), Replica(feature_artifact, bus, now)
    one.collector.observe(batches[1], 0.0)
    one.turn()
    stranger.collector.recorder.windows.add(stranger.collector.baseline.state, now[0])
    stranger.collector.recorder.resume(stranger.collector.baseline.state, None, now[0], [])
    foreign = next(
        share for share in stranger.collector.publish(0).shares if share.ring == EVERYTHING and share.kind == WHOLE
    )
    shelf = bus.shelves[artifact.manifest.digest]
    shelf.put("garbage", Share("everything", 0, WHOLE, 1, b"\x00garbage"))
    shelf.put("stranger", foreign)
    one.turn()
    answer = ask(one.collector, AllLayers(WindowQuery("all")))
    assert answer["requests"] == 3
    assert "What replica garbage shares is not a state of format 4" in answer["fleet"]["trouble"]
    assert "What replica stranger shares does not fit the layers and labels of intents" in answer["fleet"]["trouble"]
    assert "What replica garbage shares" in caplog.text


def test_clock_that_is_off_is_told(artifact: Artifact, now: list[float]):
    bus = Bus()
    one, skewed = (Replica(artifact, bus, now) for _ in range(2))
    skewed.turn()
    for offset, said, remedy in (
        (3600.0, "3600 s ahead", "set its clock (NTP) and restart it."),
        (-3600.0, "3600 s behind", "set its clock (NTP)."),
    ):
        for known, met in bus.met.items():
            bus.met[known] = met._replace(clock_offset=offset)
        one.turn()
        trouble = ask(one.collector, AllLayers(WindowQuery("all")))["fleet"]["trouble"]
        assert SKEW < 3600 and said in trouble and trouble.endswith(remedy)
    assert np.isclose(
        ask(one.collector, AllLayers(WindowQuery("all")))["fleet"]["others"][0]["clock_offset_seconds"], -3600
    )


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


def test_replica_with_a_clock_an_hour_ahead_pushes_no_other_out(
    artifact: Artifact, batches: list[EncodedBatch], now: list[float]
):
    bus, ahead = Bus(), [now[0] + 3600.0]
    skewed, one, reader = (Replica(artifact, bus, clock) for clock in (ahead, now, now))
    for replica in (one, skewed, reader):
        replica.collector.observe(batches[2], 0.0)
        replica.turn()
    for _ in range(3):
        now[0] += 1.0
        ahead[0] += 1.0
        skewed.collector.observe(batches[0], 0.0)
        for replica in (skewed, reader):
            replica.turn()
    answer = ask(reader.collector, AllLayers(WindowQuery("1h")))
    assert answer["window"]["requests"] == 14 and answer["requests"] == 7 * 3 + 3


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
