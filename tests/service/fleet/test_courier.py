"""Replicas that exchange their statistics answer as one service that has seen everything."""

from random import Random
from typing import Any

import pytest

from runtime.artifact import Artifact, read_artifact
from runtime.errors import InvalidInput
from runtime.graph.batch import EncodedBatch
from service.norm_stats.collector import Collector
from service.norm_stats.interface import (
    AllLayers,
    DropBaseline,
    History,
    MergeableState,
    OneLayer,
    TakeBaseline,
    WindowQuery,
)
from service.settings import TWIN
from tests.helpers import assert_same
from tests.service.fleet.bus import Bus, Replica, alone, ask, batches_of, unlike


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
    for replica, batch in zip((one, other, one), batches_of(artifact, 20, 11, 9), strict=True):
        replica.collector.observe(batch, 0.0)
        whole.observe(batch, 0.0)
    for replica in (one, other, one):
        replica.turn()
    assert_one_service(one.collector, whole)
    assert ask(one.collector, AllLayers(WindowQuery("all")))["layers"][0]["live"]["features"] is not None


def test_baseline_of_one_replica_holds_on_all(artifact: Artifact, batches: list[EncodedBatch], now: list[float]):
    bus = Bus()
    replicas = [Replica(artifact, bus, now) for _ in range(3)]
    for _ in range(8):
        for replica in replicas:
            replica.collector.observe(unlike(batches[3]), 0.0)

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
