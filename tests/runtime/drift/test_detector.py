"""Verdicts on traffic drawn from a known world: classes with means of their own, and correlated noise around them."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.reference import FALSE_ALARMS, fit_reference
from runtime.drift.detector import ARRAYS, MIN_REQUESTS, Reference, as_matrix, window_scores
from runtime.drift.mix import interpolate, mix_score
from runtime.drift.numbers import NOT_FITTED, request_features
from runtime.graph.encoder import Encoder
from runtime.statistics.traffic import Traffic
from tests.helpers import Export, random_sequences
from tests.runtime.drift.world import CLASSES, world


def rate(reference: Reference, state: str, size: int, windows: int = 300, **changes: object) -> float:
    """Share of windows of `size` requests that are given this state."""
    hits = 0
    for seed in range(1, windows + 1):
        features, classes = world(size, seed, **changes)
        hits += reference.judge(reference.sums(features, classes)).state == state
    return hits / windows


@pytest.mark.parametrize("size", [40, 200, 3000])
def test_ordinary_windows_are_ok(reference: Reference, size: int) -> None:
    assert rate(reference, "drift", size) <= 3 * FALSE_ALARMS
    assert rate(reference, "ok", size) >= 0.95


@pytest.mark.parametrize(("size", "shift"), [(50, 0.8), (200, 0.5)])
def test_shifted_windows_are_drift(reference: Reference, size: int, shift: float) -> None:
    assert rate(reference, "drift", size, shift=shift) >= 0.95


@pytest.mark.parametrize("size", [50, 200])
def test_another_mix_of_topics_alone_is_no_drift(reference: Reference, size: int) -> None:
    topics = np.array([2, 3, 7])
    assert rate(reference, "mix_shift", size, classes=topics) >= 0.9
    assert rate(reference, "drift", size, classes=topics) <= 0.05


def test_tiny_differences_are_no_drift_however_sure(reference: Reference) -> None:
    assert rate(reference, "drift", 50_000, windows=5, shift=0.05) == 0


def test_few_requests_are_insufficient_data(reference: Reference) -> None:
    features, classes = world(MIN_REQUESTS - 1, seed=1, shift=9.0)
    assert reference.judge(reference.sums(features, classes)).state == "insufficient_data"
    assert reference.judge(reference.no_traffic()).state == "insufficient_data"


def test_drift_names_the_layer_that_departs(reference: Reference) -> None:
    features, classes = world(300, seed=1)
    features[:, 4:6] += [1.5, -1.5]
    judgement = reference.judge(reference.sums(features, classes))
    assert judgement.fired[2] and not judgement.fired[[0, 1, 3, 4]].any()
    assert judgement.effects[2] > 1


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_traffic_of_any_split_in_any_order_equals_one_pass(sizes: list[int], random: object) -> None:
    features, classes = world(sum(sizes), seed=3)
    ends = np.cumsum(sizes)
    parts = [
        Traffic.of(features[end - size : end], classes[end - size : end], CLASSES)
        for size, end in zip(sizes, ends, strict=True)
    ]
    random.shuffle(parts)  # type: ignore[attr-defined]
    merged = Traffic.nothing()
    for part in parts:
        merged = merged.merge(part)
    whole = Traffic.of(features, classes, CLASSES)
    np.testing.assert_array_equal(merged.counts, whole.counts)
    np.testing.assert_allclose(merged.totals, whole.totals, rtol=1e-12, atol=1e-12 * np.abs(features).sum())


def test_reference_comes_back_from_its_dictionary(reference: Reference) -> None:
    again = Reference.from_dict(reference.to_dict())
    assert again.unlikeness is not None and reference.unlikeness is not None
    assert again.unlikeness.to_dict() == reference.unlikeness.to_dict()
    for name in ARRAYS:
        np.testing.assert_allclose(getattr(again, name), getattr(reference, name), rtol=1e-6, atol=1e-8)


@given(st.integers(1, 9), st.integers(0, 1), st.integers(1, 3), st.integers(0, 2**32))
def test_scores_of_pairs_are_those_of_a_matrix_that_is_zero_elsewhere(pairs: int, more: int, windows: int, seed: int):
    rng, columns = np.random.default_rng(seed), 2 * pairs + more
    precision, z = rng.normal(size=(pairs, 2, 2)), rng.normal(size=(windows, columns))
    found = window_scores(z, precision, np.eye(columns))
    products = z * (z @ as_matrix(precision, columns))
    expected = [products[:, 2 * pair : 2 * pair + 2].sum(1) for pair in range(pairs)]
    np.testing.assert_allclose(found[:, :pairs], np.array(expected).T, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(found[:, pairs:], z)
    np.testing.assert_allclose(window_scores(z[0], precision, np.eye(columns)), found[0], rtol=1e-9)


def test_what_moves_every_layer_a_little_shows_in_what_they_share(reference: Reference) -> None:
    features, classes = world(120, seed=1)
    traffic = reference.sums(features, classes)
    expected = traffic.counts @ reference.class_means
    moved = 0.35 * np.sign(reference.directions[0]) * np.sqrt(reference.variance)
    judgement = reference.judge(replace(traffic, totals=expected + traffic.requests * moved))
    ratios = judgement.scores / judgement.thresholds
    assert judgement.fired[reference.places] and ratios.argmax() == reference.places
    assert np.abs(reference.directions[0][[0, 1, -3, -2, -1]]).max() == 0


def test_few_rows_are_enough_but_trusted_less(reference: Reference) -> None:
    few = fit_reference(*world(60, seed=0), CLASSES)
    assert few is not None and reference.unlikeness is not None
    shown, usual = few.would_show(200), reference.would_show(200)
    assert shown is not None and usual is not None and 0 < 1.5 * usual < shown < 1


def test_small_validation_data_give_no_reference() -> None:
    assert fit_reference(*world(59, seed=0), CLASSES) is None
    features, _ = world(120, seed=0)
    assert fit_reference(features, np.arange(120), 120) is None  # one request of each class says nothing about spread


def test_request_features_match_a_plain_computation(text_export: Export, text_encoder: Encoder) -> None:
    sequences = random_sequences(text_export[1], 9, seed=4)
    features, classes = request_features(text_encoder.run(sequences))
    for row, sequence in enumerate(sequences):
        alone = text_encoder.run([sequence])
        tokens, logits = alone.norm_statistics.astype(float), alone.logits[0].astype(float)
        top = np.exp(logits.max()) / np.exp(logits).sum()
        pieces = alone.token_lengths.astype(float)
        expected = [np.log(len(sequence)), pieces.mean()]
        expected += [*np.column_stack([tokens[:, 0::2].mean(0), (tokens[:, 1::2] ** 2).mean(0)]).ravel()]
        likely = np.exp(logits) / np.exp(logits).sum()
        expected += [-np.log(top), np.log(np.exp(logits).sum()), -(likely * np.log(likely)).sum()]
        np.testing.assert_allclose(features[row], expected, rtol=1e-4, atol=1e-5)
        assert classes[row] == logits.argmax()


def test_requests_that_overflow_add_nothing(reference: Reference, text_encoder: Encoder, text_export: Export) -> None:
    batch = text_encoder.run(random_sequences(text_export[1], 3, seed=4))
    batch.logits[1] = np.nan
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("runtime.drift.detector.request_features", lambda batch: world_like(batch.logits))
        assert reference.traffic(batch).counts.sum() == 2


def world_like(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    features, classes = world(len(logits), seed=1)
    features[~np.isfinite(logits).all(1)] = np.nan
    return features, classes


@pytest.mark.parametrize(("shift", "known"), [(0.0, True), (6.0, False)])
def test_accuracy_is_told_where_it_was_learnt_and_the_input_is_not_broken(
    reference: Reference, shift: float, known: bool
) -> None:
    assert reference.unlikeness is not None
    features, classes = world(300, seed=8)
    features[:, 0:2] += shift  # the input alone: the model is as sure as ever
    learnt = replace(reference, unlikeness=replace(reference.unlikeness, platt=np.array([1.1, 0.2])))
    assert (learnt.judge(learnt.sums(features, classes)).accuracy is not None) is known
    unlabelled = replace(reference, unlikeness=replace(reference.unlikeness, platt=np.array(NOT_FITTED)))
    assert unlabelled.judge(unlabelled.sums(features, classes)).accuracy is None


def test_a_column_that_never_varies_says_nothing() -> None:
    features, classes = world(2400, seed=0)
    features[:, 0] = 3.0
    found = fit_reference(features, classes, CLASSES)
    assert found is not None
    later, topics = world(300, seed=9)
    later[:, 0] = 3.0
    assert found.judge(found.sums(later, topics)).state == "ok"


def test_a_kept_column_that_never_varies_says_nothing_either() -> None:
    """Inputs that are all as long, such as scans, leave the input nothing to be judged by."""
    features, classes = world(1200, seed=0)
    features[:, :2] = np.log(7.0), 1 / 3  # neither is a number of float32
    fitted = fit_reference(features, classes, CLASSES)
    assert fitted is not None
    reference = Reference.from_dict(fitted.to_dict())
    for shift, state in ((0.0, "ok"), (1.0, "drift")):
        live, classes = world(5000, seed=1, shift=shift)
        live[:, :2] = features[0, :2]
        judgement = reference.judge(reference.sums(live, classes))
        assert judgement.state == state and not judgement.fired[0]
        assert np.isfinite([judgement.scores, judgement.thresholds, judgement.effects]).all()


def test_mix_score_of_equal_shares_is_zero() -> None:
    expected = np.array([9.5, 19.5, 0.5])
    assert mix_score(3 * (expected + 0.5), expected) == pytest.approx(0, abs=1e-20)


def test_thresholds_are_interpolated_and_constant_beyond() -> None:
    sizes, thresholds = (10, 1000), np.array([4.0, 2.0])
    assert interpolate(100, sizes, thresholds) == pytest.approx(3.0)
    assert interpolate(1, sizes, thresholds) == 4.0 and interpolate(1e9, sizes, thresholds) == 2.0
