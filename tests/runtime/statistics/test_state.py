from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from runtime.graph.batch import row_means, token_values
from runtime.graph.encoder import Encoder
from runtime.graph.inputs import Tokens
from runtime.graph.packing import pack
from runtime.manifest import NormLayer
from runtime.statistics.buffer import feature_state
from runtime.statistics.moments import Moments
from runtime.statistics.state import NormState
from tests.helpers import Export, assert_same_moments, expected_values, merge_anyhow, random_sequences, split_anyhow

EPS = 1e-5
LAYERS = [NormLayer(name=name, kind="layer_norm", placement="post", d_model=8, eps=EPS) for name in ("first", "second")]
tables = arrays(
    np.float64, st.tuples(st.integers(0, 60), st.just(4)), elements=st.floats(-(2.0**90), 2.0**90, width=32)
)


def state_of(encoder: Encoder, batches: list[list[Tokens]], width: int | None = None) -> NormState:
    """What `encoder` sees of these batches, folded one by one."""
    state = NormState.empty(encoder.manifest.layers)
    for batch in batches:
        outputs = encoder.run_packed(pack(batch, width))
        values = token_values(outputs.norm_statistics, encoder.manifest.layers)
        state = state.merge(NormState.of(len(batch), values))
    return state


@given(tables, st.randoms(use_true_random=False))
def test_merge_of_any_split_in_any_order_equals_one_pass(values: np.ndarray, random: Random):
    parts = [NormState.of(len(part), part) for part in split_anyhow(values, random)]
    found, expected = merge_anyhow(parts, random), NormState.of(len(values), values)
    assert (found.requests, found.tokens) == (expected.requests, expected.tokens) == (len(values), len(values))
    np.testing.assert_array_equal(found.histograms, expected.histograms)
    assert_same_moments(found.moments, expected.moments, 1e-12)


@given(arrays(np.float64, st.tuples(st.integers(1, 40), st.just(4)), elements=st.floats(width=32)))
def test_tokens_that_are_not_finite_are_left_out_of_their_column(values: np.ndarray):
    state = NormState.of(1, values)
    assert state.tokens == len(values)
    np.testing.assert_array_equal(state.moments.count, np.isfinite(values).sum(0))
    for column, histogram in zip(values.T, state.histograms, strict=True):
        alone = NormState.of(1, np.repeat(column[np.isfinite(column)][:, None], 4, axis=1))
        np.testing.assert_array_equal(histogram, alone.histograms[0])


@given(arrays(np.float64, (5, 4), elements=st.floats(-100, 100)), arrays(np.float64, (5, 2), elements=st.floats(0, 50)))
def test_token_values_invert_the_inverse_deviation(means: np.ndarray, variances: np.ndarray):
    raw = means.copy()
    raw[:, 1::2] = 1 / np.sqrt(variances + EPS)
    found = token_values(raw, LAYERS)
    np.testing.assert_array_equal(found[:, 0::2], means[:, 0::2])
    np.testing.assert_allclose(found[:, 1::2], variances, rtol=1e-12, atol=1e-15)


def test_token_values_at_eps_are_a_variance_of_zero():
    saturated = np.array([[0.0, EPS**-0.5] * 2], dtype=np.float32)
    for nudge in (0.999999, 1.0, 1.000001):  # a float32 may round to either side of it
        assert token_values(saturated * np.float32(nudge), LAYERS)[0, 1] == pytest.approx(0, abs=1e-10)
    assert (token_values(saturated * np.float32(1.000001), LAYERS)[:, 1::2] == 0).all()


def test_token_values_of_an_overflown_token_are_not_finite():
    found = token_values(np.array([[np.nan, np.nan, np.inf, 0.0]], dtype=np.float32), LAYERS)
    assert not np.isfinite(found).any()


def test_state_matches_a_float64_pass_over_the_graphs_outputs(text_encoder: Encoder, text_export: Export):
    sequences = random_sequences(text_export[1], 50)
    raw = text_encoder.run(sequences).norm_statistics.astype(np.float64)
    values = raw.copy()
    values[:, 1::2] = raw[:, 1::2] ** -2 - text_encoder.manifest.layers[0].eps
    state = state_of(text_encoder, [sequences])
    assert (state.requests, state.tokens) == (50, sum(map(len, sequences)))
    np.testing.assert_allclose(state.moments.mean, values.mean(0), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(state.moments.variance, values.var(0), rtol=1e-12)
    for column in range(values.shape[1]):
        summary = state.summary(column)
        assert summary["mean"] == pytest.approx(values[:, column].mean(), rel=1e-12)
        assert summary["std"] == pytest.approx(values[:, column].std(), rel=1e-12)
        assert (summary["min"], summary["max"]) == (values[:, column].min(), values[:, column].max())
        for name, q in (("p01", 0.01), ("p50", 0.5), ("p99", 0.99)):
            expected = np.quantile(values[:, column], q, method="lower")
            assert summary[name] == pytest.approx(expected, rel=0.008, abs=2.0**-20)


@pytest.mark.parametrize("kind", ["text", "feature"])
def test_state_matches_pytorch_in_float64(request: pytest.FixtureRequest, kind: str):
    artifact, served = request.getfixturevalue(f"{kind}_export")
    sequences = random_sequences(served, 60, seed=1)
    expected = expected_values(served, artifact, sequences)
    found = state_of(request.getfixturevalue(f"{kind}_encoder"), [sequences]).moments
    sigma = np.repeat(np.sqrt(expected[:, 1::2].mean(0)), 2)
    assert (np.abs(found.mean - expected.mean(0))[0::2] <= 1e-6 * sigma[0::2]).all()
    np.testing.assert_allclose(found.mean[1::2], expected.mean(0)[1::2], rtol=1e-6)


@pytest.mark.parametrize("kind", ["text", "feature"])
def test_state_does_not_depend_on_batches_packs_or_padding(request: pytest.FixtureRequest, kind: str):
    encoder = request.getfixturevalue(f"{kind}_encoder")
    sequences = random_sequences(request.getfixturevalue(f"{kind}_export")[1], 24, seed=2)
    together = state_of(encoder, [sequences])
    halves, shuffled = [sequences[:5], sequences[5:]], [Random(0).sample(sequences, len(sequences))]
    for batches, width in ([[s] for s in sequences], 1), (halves, 12), (shuffled, 300):
        state = state_of(encoder, batches, width)
        assert (state.requests, state.tokens) == (together.requests, together.tokens)
        np.testing.assert_array_equal(state.moments.count, together.moments.count)
        np.testing.assert_allclose(state.moments.mean, together.moments.mean, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(state.moments.variance, together.moments.variance, rtol=1e-5)


def test_summary_of_nothing_is_none():
    assert NormState.empty(LAYERS).summary(0) is None
    assert NormState.of(1, np.array([[np.nan, 1, 2, 3]])).summary(0) is None


def test_summary_of_a_constant_is_the_constant():
    summary = NormState.of(3, np.full((3, 4), 0.3)).summary(0)
    assert summary.pop("std") == pytest.approx(0, abs=1e-9)
    assert set(summary.values()) == {0.3}


def test_row_means_average_every_row():
    values = np.array([[1.0, 10.0], [3.0, 30.0], [5.0, 50.0]])
    np.testing.assert_array_equal(row_means(values, np.array([2, 1])), [[2, 20], [5, 50]])


def test_feature_states_merge_to_the_moments_of_all_tokens():
    tokens = np.random.default_rng(0).normal(2, 3, (30, 5))
    parts = [tokens[:7], tokens[7:8], tokens[8:]]
    batches = [feature_state(np.stack([part.mean(0), part.var(0)]), len(part)) for part in parts]
    merged = merge_anyhow(batches, Random(0))
    assert merged.count.tolist() == [30] * 5
    np.testing.assert_allclose(merged.mean, tokens.mean(0), rtol=1e-12)
    np.testing.assert_allclose(merged.variance, tokens.var(0), rtol=1e-12)


def test_merge_adds_the_features_of_both_sides():
    one, other = (
        NormState.of(1, np.zeros((2, 4)), {1: Moments.of(np.full((n, 3), n), np.ones((n, 3), bool))}) for n in (1, 3)
    )
    bare = NormState.of(1, np.zeros((2, 4)))
    merged = bare.merge(one).merge(other).merge(bare)
    assert merged.features[1].count.tolist() == [4] * 3
    assert merged.features[1].mean.tolist() == [2.5] * 3


def test_residual_norm_saturation_and_overflow_are_measured() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(0.3, 2.0, (50, 16))
    vectors[:5] = 0.7  # constant tokens: no variance
    values = np.column_stack([vectors.mean(1), vectors.var(1)])
    values[-1] = np.nan
    state = NormState.of(1, values)
    expected = np.sqrt(np.square(vectors[:-1]).sum(1).mean())
    assert state.residual_norm(0, 16) == pytest.approx(expected, rel=1e-12)
    assert state.saturated(0, eps=1e-5) == pytest.approx(5 / 49)
    assert state.not_finite(0) == 1


@pytest.mark.parametrize(
    ("variances", "eps", "share"),
    [
        ((1e-8, 9e-7), 1e-12, 0.0),  # all in the bucket of zero, and yet above eps
        ((1e-14, 9e-13), 1e-12, 1.0),
        ((1e-6, 1e-6), 1e-6, 1.0),
        ((1e-14, 1e-8), 1e-12, None),  # some are and some are not: the histogram cannot tell
    ],
)
def test_saturation_is_exact_where_it_can_be_and_not_told_where_it_cannot(
    variances: tuple[float, float], eps: float, share: float | None
) -> None:
    values = np.column_stack([np.zeros(50), np.linspace(*variances, 50)]).astype(np.float32).astype(np.float64)
    limit = float(np.float32(eps))
    assert NormState.of(50, values).saturated(0, limit) == share
