import json
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runtime.artifact import Artifact
from runtime.drift.baseline import read_baseline
from runtime.errors import StateError
from runtime.statistics.recorder import NormRecorder
from runtime.statistics.state import NormState, SparseState
from runtime.statistics.windows import Bucket, Span
from runtime.store.document import StateDocument
from runtime.store.kept import EVERYTHING, FLEET, Kept, pack_json, parse_kept

Rows = list[tuple[Any, Any, Any]]
PATH = Path("it.sqlite")


@pytest.fixture
def rows(text_artifact: Artifact) -> Rows:
    """Of a service that has seen the validation data."""
    baseline, recorder = read_baseline(text_artifact), NormRecorder(text_artifact.manifest.layers)
    recorder.windows.add(baseline.state, 1e9)
    document = StateDocument.of(text_artifact.manifest, Span(100, 200), baseline.state, baseline.deep)
    return list(Kept(document, recorder.buckets({}), [baseline.to_json()], ("before",), 3).rows())


def with_row(rows: Rows, of: str, **changes: Any) -> Rows:
    """The same, with other columns in the first row of that name."""
    place = next(place for place, row in enumerate(rows) if row[0] == of)
    row = dict(zip(("name", "number", "content"), rows[place], strict=True)) | changes
    return [*rows[:place], tuple(row.values()), *rows[place + 1 :]]


def test_rows_that_were_written_are_read(rows: Rows):
    kept = parse_kept(rows, PATH)
    assert (len(kept.buckets), kept.replicas, kept.revision) == (2, ("before",), 3)


@pytest.mark.parametrize("number", [None, "seven", b"7", 7.5, -1, 10**10, 2**63 - 1])
def test_bucket_whose_number_is_of_no_time_is_refused(rows: Rows, number: Any):
    with pytest.raises(StateError, match="holds what is no state"):
        parse_kept(with_row(rows, "window-10", number=number), PATH)


@pytest.mark.parametrize("changes", [{"name": b"window-10"}, {"content": None}, {"content": "text"}, {"content": 5}])
def test_columns_of_other_types_are_refused(rows: Rows, changes: dict[str, Any]):
    with pytest.raises(StateError, match="holds what is no state"):
        parse_kept(with_row(rows, "window-10", **changes), PATH)


@pytest.mark.parametrize("end", [float("nan"), -1e12, 1e300])
@pytest.mark.parametrize("name", ["from", "to"])
def test_head_with_a_time_that_no_traffic_has_is_refused(rows: Rows, name: str, end: float):
    head = json.loads(zlib.decompress(next(content for of, _, content in rows if of == EVERYTHING)))
    spoiled = zlib.compress(json.dumps(head | {name: end}).encode())
    with pytest.raises(StateError, match="is not a state of format 4"):
        parse_kept(with_row(rows, EVERYTHING, content=spoiled), PATH)


@pytest.mark.parametrize(
    "fleet",
    [{"revision": -1}, {"revision": 10**16}, {"revision": None}, {"replicas": [5]}, {"replicas": ["two\nlines"]}],
)
def test_what_no_fleet_knows_is_refused(rows: Rows, fleet: dict[str, Any]):
    with pytest.raises(StateError, match="holds what is no state"):
        parse_kept(with_row(rows, FLEET, content=pack_json(fleet)), PATH)


def test_bucket_of_another_model_is_refused(rows: Rows, text_artifact: Artifact, feature_artifact: Artifact):
    manifest, kept = text_artifact.manifest, parse_kept(rows, PATH)
    assert kept.check(manifest, "it") is kept
    other = SparseState.compress(NormState.empty(feature_artifact.manifest.layers))
    with pytest.raises(StateError, match="it has a time bucket that does not fit"):
        replace(kept, buckets=[*kept.buckets, Bucket("window-10", 5, other)]).check(manifest, "it")
