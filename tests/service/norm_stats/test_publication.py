"""What a replica tells of itself: all of it, though several ask at once, and nothing again that has not changed."""

import threading
import time
from typing import Any

import pytest

from runtime.artifact import Artifact
from runtime.graph.batch import EncodedBatch
from runtime.graph.encoder import Encoder
from runtime.statistics.fleet import EVERYTHING
from runtime.store.binary import unpack_sparse
from runtime.store.kept import Kept
from runtime.store.shares import BASELINES, FIGURES, KEPT, Published, Share
from service.norm_stats.baselines import Taken
from service.norm_stats.collector import Collector
from service.norm_stats.publication import DAY
from service.settings import Settings
from tests.helpers import Export, random_sequences


@pytest.fixture
def collector(text_artifact: Artifact) -> Collector:
    return Collector(text_artifact, Settings(model=text_artifact.path))


@pytest.fixture
def batch(text_encoder: Encoder, text_export: Export) -> EncodedBatch:
    return text_encoder.run(random_sequences(text_export[1], 6))


def kept_of_another(artifact: Artifact, batch: EncodedBatch) -> Kept:
    """What an earlier start of the service has left."""
    before = Collector(artifact, Settings(model=artifact.path))
    before.observe(batch, 0.0)
    return before._to_keep({})


def requests(published: Published) -> int:
    """All that were counted, as it is told; 0 where nothing is."""
    figures = [share for share in published.shares if (share.ring, share.kind) == (EVERYTHING, FIGURES)]
    return sum(unpack_sparse(share.content, "it").requests for share in figures)


def told_baselines(published: Published) -> list[Share]:
    return [share for share in published.shares if share.ring == BASELINES]


def test_two_that_ask_at_once_do_not_mark_at_once(
    collector: Collector, batch: EncodedBatch, monkeypatch: pytest.MonkeyPatch
):
    """The courier, and another replica by HTTP: a mark that one made was lost where the other pruned at that moment."""
    publication, inside, most = collector.fleet.publication, [0], [0]
    mark = publication._mark

    def slowly(*arguments: Any) -> None:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.05)
        mark(*arguments)
        inside[0] -= 1

    monkeypatch.setattr(publication, "_mark", slowly)
    collector.observe(batch, 0.0)
    askers = [threading.Thread(target=collector.publish, args=(0,)) for _ in range(4)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert most == [1]


def test_earlier_starts_and_their_counts_are_told_together(
    collector: Collector, text_artifact: Artifact, batch: EncodedBatch, monkeypatch: pytest.MonkeyPatch
):
    """Named without their counts, they would not be counted at all; with the counts alone, twice."""
    told: list[Published] = []
    asker = threading.Thread(target=lambda: told.append(collector.publish(0)))
    resume = collector.recorder.resume

    def slowly(*arguments: Any) -> None:
        asker.start()
        asker.join(0.3)
        resume(*arguments)

    monkeypatch.setattr(collector.recorder, "resume", slowly)
    kept = kept_of_another(text_artifact, batch)
    collector._resume(kept)
    asker.join()
    assert told[0].replica.replaces == kept.replicas and requests(told[0]) == 6


def test_baselines_are_told_when_they_change_once_a_day_and_to_who_knows_nothing(collector: Collector):
    now, content = [1e9], collector.baseline.to_json()
    collector.recorder.clock = lambda: now[0]
    assert not told_baselines(collector.publish(0))
    for revision, contents in ((5 << 16, (content,)), (6 << 16, ())):
        collector.baselines.follow(Taken(revision, contents))
        first = collector.publish(collector.fleet.publication.sequence)
        assert [share.sequence for share in told_baselines(first)] == [revision] == [first.replica.revision]
        now[0] += 1.0
        again = collector.publish(first.replica.sequence)
        assert not told_baselines(again) and again.replica.revision == revision
        assert told_baselines(collector.publish(0)) == told_baselines(first)
    now[0] += DAY
    assert told_baselines(collector.publish(again.replica.sequence)) == told_baselines(first)
    assert DAY < KEPT  # a store has not dropped them by then
