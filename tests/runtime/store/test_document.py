import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from runtime.artifact import Artifact
from runtime.drift.baseline import read_baseline
from runtime.errors import StateError
from runtime.statistics.deep import DeepState
from runtime.statistics.moments import Moments
from runtime.statistics.state import NormState
from runtime.statistics.traffic import Traffic
from runtime.statistics.windows import Span
from runtime.store.document import StateDocument


def document(artifact: Artifact, start: float, end: float) -> StateDocument:
    """A state with traffic: the artifact's own validation data."""
    traffic = Traffic(np.array([3, 0, 2]), np.array([0.25, -1.5]))
    state = replace(read_baseline(artifact).state, traffic=traffic)
    return StateDocument.of(artifact.manifest, Span(start, end), state, read_baseline(artifact).deep)


def as_json(content: StateDocument) -> bytes:
    return json.dumps(content.to_dict(), allow_nan=False).encode()


@pytest.mark.parametrize("kind", ["text", "feature"])
def test_document_comes_back_exactly(request: pytest.FixtureRequest, kind: str):
    before = document(request.getfixturevalue(f"{kind}_artifact"), 100, 200)
    after = StateDocument.from_json(as_json(before), "x")
    assert after.to_dict() == before.to_dict()
    assert (after.covered, after.state.requests) == (before.covered, before.state.requests)


def test_empty_state_comes_back(text_artifact: Artifact):
    empty = StateDocument.of(text_artifact.manifest, Span(0, 1), NormState.empty(text_artifact.manifest.layers))
    again = StateDocument.from_json(as_json(empty), "x").state
    assert again.summary(0) is None
    np.testing.assert_array_equal(again.moments.minimum, np.inf)
    np.testing.assert_array_equal(again.moments.maximum, -np.inf)


def test_merge_adds_up_and_covers_both(text_artifact: Artifact):
    one, other = document(text_artifact, 100, 200), document(text_artifact, 150, 300)
    merged = one.merge(other)
    assert merged.covered == Span(100, 300)
    assert merged.state.requests == 2 * one.state.requests
    np.testing.assert_array_equal(merged.state.histograms, 2 * one.state.histograms)
    np.testing.assert_array_equal(merged.state.traffic.counts, [6, 0, 4])
    assert merged.deep is not None and one.deep is not None
    assert merged.deep.requests == 2 * one.deep.requests
    assert replace(one, deep=None).merge(other).deep is other.deep
    np.testing.assert_allclose(merged.state.moments.mean, one.state.moments.mean, rtol=1e-12)
    np.testing.assert_allclose(merged.state.moments.m2, 2 * one.state.moments.m2, rtol=1e-12)


@pytest.mark.parametrize(
    ("start", "end"),
    [(float("nan"), 5), (5, float("nan")), (-1e12, 5), (5, 1e308), (-1, 5), (6, 5), ("5", 6), (None, 5)],
)
def test_times_that_no_state_covers_are_refused(text_artifact: Artifact, start: Any, end: Any):
    found = document(text_artifact, 5, 6).to_dict() | {"from": start, "to": end}
    with pytest.raises(StateError, match="x is not a state of format 3"):
        StateDocument.from_json(json.dumps(found).encode(), "x")
    with pytest.raises(StateError, match="x is not a state of format 3"):
        StateDocument.from_head(json.dumps(found).encode(), 3, "x")


def test_states_are_checked_against_their_model(text_artifact: Artifact, feature_artifact: Artifact):
    found = StateDocument.of(feature_artifact.manifest, Span(0, 1), read_baseline(feature_artifact).state)
    assert found.check(feature_artifact.manifest, "x") is found
    with pytest.raises(StateError, match="x is a state of signals version 7, not of this texts version 1"):
        found.check(text_artifact.manifest, "x")
    with pytest.raises(StateError, match="does not fit the layers and labels"):
        document(text_artifact, 0, 1).check(text_artifact.manifest, "x")  # its traffic has two columns


def test_deep_statistics_of_other_features_are_refused(text_artifact: Artifact):
    found = read_baseline(text_artifact)
    nothing = DeepState.empty(text_artifact.manifest.layers[:1])
    document = StateDocument.of(text_artifact.manifest, Span(0, 1), found.state, nothing)
    with pytest.raises(StateError, match="does not fit the features"):
        document.check(text_artifact.manifest, "x")


@pytest.mark.parametrize("places", [[-1], [10**9], [0, 1]])
def test_histograms_that_do_not_fit_are_refused(text_artifact: Artifact, places: list[int]):
    content = document(text_artifact, 0, 1).to_dict()
    content["state"]["histograms"] = {"places": places, "counts": [1]}
    with pytest.raises(StateError, match="do not fit the moments"):
        StateDocument.from_json(json.dumps(content).encode(), "x")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("moments", "mean"), 1e308),
        (("moments", "mean"), float("nan")),
        (("moments", "m2"), 1e308),
        (("moments", "m2"), -1e308),
        (("moments", "minimum"), -1e308),
        (("moments", "maximum"), 1e308),
        (("moments", "maximum"), -1e30),
        (("moments", "count"), 10**18),
        (("moments", "count"), -1),
        (("histograms", "counts"), 10**18),
        (("traffic", "counts"), -1),
        (("traffic", "totals"), float("inf")),
        (("requests",), -1),
        (("tokens",), 10**18),
    ],
)
def test_numbers_that_no_traffic_has_are_refused(text_artifact: Artifact, place: tuple[str, ...], value: float):
    """They would make every answer about statistics an error, for good."""
    content = document(text_artifact, 0, 1).to_dict()
    at: Any = content["state"]
    for name in place[:-1]:
        at = at[name]
    if isinstance(at[place[-1]], list):
        at[place[-1]][0] = value
    else:
        at[place[-1]] = value
    with pytest.raises(StateError, match=r"no traffic has|no float32"):
        StateDocument.from_json(json.dumps(content).encode(), "x")


def test_largest_float32_values_come_back_and_merge(feature_artifact: Artifact):
    largest = float(np.finfo(np.float32).max)
    values = np.array([[largest, 1 / largest, -largest, 1.0], [-largest, 0.0, largest, 1.0]])
    layers = feature_artifact.manifest.layers
    state = NormState.of(2, np.resize(values, (2, 2 * len(layers))))
    found = StateDocument.of(feature_artifact.manifest, Span(0, 1), state)
    again = StateDocument.from_json(as_json(found), "x")
    merged = again.merge(again).state
    for column in range(2 * len(layers)):
        summary = merged.summary(column)
        assert summary is not None and np.isfinite([summary["mean"], summary["std"]]).all()


def test_counts_beyond_two_to_the_32_merge() -> None:
    half = Moments(np.array([5 * 10**9]), np.array([1.0]), np.array([5e9]), np.array([0.0]), np.array([2.0]))
    other = Moments(half.count, half.mean + 2, half.m2, half.minimum, half.maximum)
    assert half.merge(other).variance[0] == pytest.approx(2.0)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 1},
        {"layers": ...},
        {"state": None},
        {"state": {}},
        {"from": "yesterday"},
        {"digest": ...},
    ],
    ids=str,
)
def test_what_is_no_state_is_refused(text_artifact: Artifact, change: dict[str, Any]):
    content = document(text_artifact, 0, 1).to_dict() | change
    content = {name: value for name, value in content.items() if value is not ...}
    with pytest.raises(StateError, match=r"host-a\.json is not a state of format 3"):
        StateDocument.from_json(json.dumps(content).encode(), "host-a.json")


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b'{"format": 1}'])
def test_what_is_no_document_is_refused(content: bytes):
    with pytest.raises(StateError, match="is not a state"):
        StateDocument.from_json(content, "x")
