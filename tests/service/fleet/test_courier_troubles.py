"""Replicas that are away, dead, wrong about the time or absurd: the others count on, and say so."""

import logging

import numpy as np
import pytest

from runtime.artifact import Artifact
from runtime.graph.batch import EncodedBatch
from runtime.statistics.fleet import EVERYTHING
from runtime.store.shares import WHOLE, Share
from service.fleet.courier import SKEW
from service.norm_stats.interface import AllLayers, WindowQuery
from tests.service.fleet.bus import Bus, Replica, ask


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
