"""A snapshot tells the same as the statistics of the last hour."""

import json

import numpy as np
import pytest

from runtime.artifact import Artifact, read_artifact
from runtime.graph.encoder import Encoder
from service.norm_stats.collector import Collector
from service.norm_stats.interface import AllLayers, WindowQuery
from service.settings import EMBEDDED, Settings


def test_snapshot_is_the_last_hour_as_the_statistics_tell_it():
    artifact = read_artifact(EMBEDDED)
    collector, tokens = Collector(artifact, Settings()), np.random.default_rng(0).integers(0, 500, (200, 9))
    collector.observe(Encoder(artifact).run(list(tokens)), 0.1)
    told = json.loads(collector.report(AllLayers(WindowQuery("1h"))))
    seen = collector.snapshot()
    assert (seen.state, seen.requests) == (told["verdict"]["state"], 200)
    ends = (told["input"], told["output"], told["all_layers"], told["unlikeness"])
    places = [told["input"], *told["layers"], *ends[1:]]
    assert [layer.name for layer in seen.layers] == [place["name"] for place in places]
    for layer, place in zip(seen.layers, places, strict=True):
        assert layer.score == pytest.approx(place["drift"].get("score"))
        assert layer.threshold == pytest.approx(place["drift"].get("threshold"))
        if place not in ends:
            assert layer.mean == pytest.approx(place["live"]["mean"]["mean"])
            assert layer.variance == pytest.approx(place["live"]["variance"]["mean"])
    assert seen.state == "drift" and seen.alert is told["verdict"]["alert"] is True
    assert (seen.unlike, seen.accuracy) == (told["verdict"]["unlike"], told["verdict"]["estimated_accuracy"])


def test_snapshot_of_no_traffic_tells_no_numbers(text_artifact: Artifact):
    seen = Collector(text_artifact, Settings(model=text_artifact.path)).snapshot()
    assert (seen.state, seen.requests) == ("insufficient_data", 0)
    assert all(layer[1:] == (None, None, None, None) for layer in seen.layers)
