"""A share is read once while it stays the same, and no longer held than it may count again."""

import numpy as np
import pytest

from runtime.artifact import Artifact
from runtime.drift.baseline import read_baseline
from runtime.manifest import Manifest
from runtime.statistics.fleet import EVERYTHING, EVERYTHING_DEEP, Content
from runtime.statistics.recorder import Place
from runtime.statistics.state import SparseState
from runtime.store.binary import pack_deep, pack_whole
from runtime.store.shares import WHOLE, Share
from service.fleet import merging
from service.fleet.merging import Merger, make_read_only

BUCKET = ("window-10", 7)


@pytest.fixture
def share(text_artifact: Artifact) -> Share:
    return Share(*BUCKET, WHOLE, 1, pack_whole(SparseState.compress(read_baseline(text_artifact).state)))


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Share]:
    """Which shares were read."""
    read, reading = list[Share](), merging.read_share

    def noticed(manifest: Manifest, place: Place, share: Share, source: str) -> Content:
        read.append(share)
        return reading(manifest, place, share, source)

    monkeypatch.setattr(merging, "read_share", noticed)
    return read


def test_share_is_read_again_once_it_is_another(text_artifact: Artifact, share: Share, read: list[Share]):
    merger, newer = Merger(text_artifact.manifest, lambda: 80.0), share._replace(sequence=2)
    for second in (share, share, newer, newer):
        contents, refused = merger.merge({BUCKET: {("a", WHOLE): share, ("b", WHOLE): second}}, frozenset())
        found = contents[BUCKET]
        assert isinstance(found, SparseState) and found.requests == 72 and not refused
    assert len(read) == 2 + 1 and read[-1] is newer


def test_of_who_counts_no_more_and_of_buckets_that_are_over_nothing_is_held(text_artifact: Artifact, share: Share):
    now = [80.0]
    merger = Merger(text_artifact.manifest, lambda: now[0])
    two = {(EVERYTHING, 0): {("a", WHOLE): share, ("b", WHOLE): share._replace(sequence=2)}}
    merger.merge(two | {BUCKET: {("a", WHOLE): share}}, frozenset())
    assert {place: len(known) for place, known in merger.known.items()} == {(EVERYTHING, 0): 2, BUCKET: 1}
    now[0] += 61.0
    merger.merge(two, frozenset("a"))
    assert {place: len(known) for place, known in merger.known.items()} == {(EVERYTHING, 0): 1}


def test_what_is_held_cannot_be_changed(text_artifact: Artifact, feature_artifact: Artifact, share: Share):
    merger = Merger(text_artifact.manifest, lambda: 80.0)
    found = merger.merge({BUCKET: {("a", WHOLE): share}}, frozenset())[0][BUCKET]
    assert isinstance(found, SparseState)
    deep = read_baseline(text_artifact).deep
    assert deep is not None
    looked = Share(EVERYTHING_DEEP, 0, WHOLE, 1, pack_deep(deep))
    merger.merge({looked.place: {("a", WHOLE): looked}}, frozenset())
    features = SparseState.compress(read_baseline(feature_artifact).state)
    make_read_only(features)
    for array in (
        found.moments.mean,
        found.counts,
        found.traffic.counts,
        *(m.mean for m in features.features.values()),
    ):
        assert isinstance(array, np.ndarray) and features.features
        with pytest.raises(ValueError, match="read-only"):
            array[:] = 0
