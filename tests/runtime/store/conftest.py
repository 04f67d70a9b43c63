"""What was seen as a service keeps it, and how tests save and compare it."""

import pytest

from runtime.artifact import Artifact
from runtime.drift.baseline import read_baseline
from runtime.statistics.recorder import NormRecorder
from runtime.statistics.windows import Span
from runtime.store.document import StateDocument, bucket_to_dict
from runtime.store.kept import Kept
from runtime.store.sqlite import StateStore


@pytest.fixture
def kept(text_artifact: Artifact) -> Kept:
    """The validation data as everything that was seen, in one time bucket a ring."""
    baseline, recorder = read_baseline(text_artifact), NormRecorder(text_artifact.manifest.layers)
    recorder.windows.add(baseline.state, 1e9)
    assert baseline.deep is not None
    recorder.windows.add_deep(baseline.deep, 1e9)
    document = StateDocument.of(text_artifact.manifest, Span(100, 200), baseline.state, baseline.deep)
    return Kept(document, recorder.buckets({}), [baseline.to_json()])


def save(store: StateStore, kept: Kept) -> None:
    """Saves as a service that then ends."""
    store.save(kept)
    store.stop()


def content(kept: Kept) -> tuple:
    buckets = [(ring, number, bucket_to_dict(state)) for ring, number, state in kept.buckets]
    return kept.document.to_dict(), sorted(buckets, key=str), kept.baselines
