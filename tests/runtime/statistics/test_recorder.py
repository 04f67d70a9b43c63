import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from runtime.graph.batch import EncodedBatch, token_values
from runtime.graph.encoder import Encoder
from runtime.statistics import buffer
from runtime.statistics.recorder import NormRecorder
from runtime.statistics.state import NormState
from runtime.statistics.windows import Span
from tests.helpers import Export, assert_same_moments, random_sequences


def record(encoder: Encoder, batches: list[EncodedBatch]) -> NormState:
    seen = NormRecorder(encoder.manifest.layers)
    for batch in batches:
        seen.observe(batch)
    return seen.state()


def assert_same_state(found: NormState, expected: NormState) -> None:
    assert (found.requests, found.tokens) == (expected.requests, expected.tokens)
    np.testing.assert_array_equal(found.histograms, expected.histograms)
    assert_same_moments(found.moments, expected.moments, 1e-12)
    assert found.features.keys() == expected.features.keys()
    for index, moments in expected.features.items():
        assert_same_moments(found.features[index], moments, 1e-12)


def test_folding_at_the_threshold_equals_not_folding(
    encoder: Encoder, batches: list[EncodedBatch], monkeypatch: pytest.MonkeyPatch
):
    states = []
    for threshold in (1, 50, 100_000):
        monkeypatch.setattr(buffer, "TOKENS", threshold)
        states.append(record(encoder, batches))
    assert states[0].requests == sum(range(1, 13))
    assert states[0].tokens == sum(len(batch.norm_statistics) for batch in batches)
    assert_same_state(states[0], states[2])
    assert_same_state(states[1], states[2])


def test_values_beyond_their_limits_are_counted_apart(encoder: Encoder, batches: list[EncodedBatch]):
    columns = 2 * len(encoder.manifest.layers)
    none, limits = np.full(columns, np.inf), np.full(columns, np.inf)
    everything = NormRecorder(encoder.manifest.layers, limits=(none, {}))
    few = NormRecorder(encoder.manifest.layers, limits=(limits, {}))
    means = np.concatenate([token_values(each.norm_statistics, encoder.manifest.layers)[:, 0] for each in batches])
    limits[0] = np.median(np.abs(means))
    for batch in batches:
        everything.observe(batch)
        few.observe(batch)
    assert_same_state(everything.state(), record(encoder, batches))
    kept, state = means[np.abs(means) <= limits[0]], few.state()
    assert state.moments.count[0] == len(kept) and state.not_finite(0) == len(means) - len(kept) > 0
    np.testing.assert_allclose(state.moments.mean[0], kept.mean(), rtol=1e-9)
    np.testing.assert_array_equal(state.moments.count[1:], everything.state().moments.count[1:])
    assert state.histograms[0].sum() == len(kept)


def test_reading_in_between_changes_nothing(encoder: Encoder, batches: list[EncodedBatch]):
    seen = NormRecorder(encoder.manifest.layers)
    for batch in batches:
        seen.observe(batch)
        assert_same_state(seen.state(), seen.state())
    assert_same_state(seen.state(), record(encoder, batches))


def test_a_state_once_read_does_not_change(encoder: Encoder, batches: list[EncodedBatch]):
    seen = NormRecorder(encoder.manifest.layers)
    seen.observe(batches[0])
    early = seen.state()
    for batch in batches[1:]:
        seen.observe(batch)
    seen.state()
    assert_same_state(early, record(encoder, batches[:1]))


def test_nothing_seen_is_the_empty_state(encoder: Encoder):
    assert_same_state(record(encoder, []), NormState.empty(encoder.manifest.layers))


def test_feature_moments_are_those_of_all_tokens_together(feature_encoder: Encoder, feature_export: Export):
    sequences = random_sequences(feature_export[1], 20)
    apart = record(feature_encoder, [feature_encoder.run([sequence]) for sequence in sequences])
    together = feature_encoder.run(sequences).feature_moments
    layers = range(len(feature_encoder.manifest.layers))
    np.testing.assert_allclose([apart.features[i].mean for i in layers], together[:, 0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose([apart.features[i].variance for i in layers], together[:, 1], rtol=1e-5)


def test_threads_that_observe_and_read_lose_nothing(
    encoder: Encoder, batches: list[EncodedBatch], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(buffer, "TOKENS", 40)
    seen, start = NormRecorder(encoder.manifest.layers), threading.Barrier(6)

    def write() -> None:
        start.wait()
        for batch in batches:
            seen.observe(batch)

    def read() -> list[int]:
        start.wait()
        return [seen.state().requests for _ in range(50)]

    with ThreadPoolExecutor(6) as pool:
        writers, readers = [pool.submit(write) for _ in range(4)], [pool.submit(read) for _ in range(2)]
    for writer in writers:
        writer.result()
    for reader in readers:
        assert reader.result() == sorted(reader.result()), "a later reading counted less"
    assert_same_state(seen.state(), record(encoder, batches * 4))


def test_figures_are_those_of_the_window_without_histograms(encoder: Encoder, batches: list[EncodedBatch]):
    """Of buckets that are closed, and of the one that is filling."""
    now = 1_000_000.0
    seen = NormRecorder(encoder.manifest.layers, clock=lambda: now)
    for batch in batches:
        seen.observe(batch)
        now += 7.0
    span = Span(now - 60, now + 1)
    found, expected = seen.figures(span), seen.window(span).state
    assert 0 < found.requests < sum(range(1, 13))
    assert_same_state(found, expected.without_histograms())


def test_window_and_everything_are_read_together(encoder: Encoder, batches: list[EncodedBatch]):
    seen = NormRecorder(encoder.manifest.layers)
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            seen.observe(batches[0])

    with ThreadPoolExecutor(1) as pool:
        pool.submit(write)
        try:
            for _ in range(50):
                recorded = seen.window(Span(seen.since - 60, seen.since + 3600))
                assert recorded.everything.requests == recorded.state.requests
        finally:
            stop.set()


def test_lately_is_what_adding_up_gives_without_histograms(encoder: Encoder, batches: list[EncodedBatch]):
    """Of everything and of each bucket that is filling, also where the newest traffic is in no ring yet."""
    now = [1_000_000.0]
    seen = NormRecorder(encoder.manifest.layers, clock=lambda: now[0])
    for seconds in (0.0, 1.0, 3.0, 7.0, 12.0, 400.0, 1.0):
        now[0] += seconds
        for batch in batches:
            seen.observe(batch)
        newest = {f"window-{length}": int(now[0] // length) for length in (10, 300)}
        lately = seen.lately(newest)
        assert sorted(lately.filling) == sorted(place for place in lately.places if place in newest.items())
        whole = seen.window(None).everything  # adds up
        assert lately.everything.tokens == whole.tokens and lately.everything.requests == whole.requests
        assert_same_moments(lately.everything.moments, whole.moments, 1e-12)
        for place, state in seen.filling().items():
            if isinstance(state, NormState):
                assert lately.filling[place].requests == state.requests
                assert_same_moments(lately.filling[place].moments, state.moments, 1e-12)
                for layer, moments in state.features.items():
                    assert_same_moments(lately.filling[place].features[layer], moments, 1e-12)
