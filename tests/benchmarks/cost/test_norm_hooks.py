"""Hooks see what the graph's outputs say."""

import numpy as np
import pytest
import torch

from benchmarks.cost.hooks_check import check_deep, check_norms, watch
from benchmarks.cost.norm_hooks import RunningMoments, bucket_of
from runtime.graph.encoder import Encoder
from runtime.statistics import histogram
from tests.helpers import Export, random_sequences


@pytest.mark.parametrize("fold_tokens", [0, 100])
@pytest.mark.parametrize("export", ["text", "feature"])
def test_hooks_give_what_the_recorder_gives(export: str, fold_tokens: int, request: pytest.FixtureRequest) -> None:
    served = request.getfixturevalue(f"{export}_export")[1]
    encoder: Encoder = request.getfixturevalue(f"{export}_encoder")
    check_norms(served.encoder, encoder, random_sequences(served, 40), fold_tokens)


@pytest.mark.parametrize("export", ["text", "feature"])  # post and pre placement
def test_deep_hooks_give_what_whole_arrays_give(export: str, request: pytest.FixtureRequest) -> None:
    served = request.getfixturevalue(f"{export}_export")[1]
    check_deep(served.encoder, random_sequences(served, 40))


def test_a_hook_that_counts_otherwise_is_found_out(text_export: Export, text_encoder: Encoder) -> None:
    served = text_export[1]
    sequences = random_sequences(served, 40)
    with torch.no_grad(), pytest.raises(AssertionError):
        other = served.encoder.__class__(served.encoder.config).eval()
        check_norms(other, text_encoder, sequences)


def test_padding_is_not_counted(text_export: Export) -> None:
    served = text_export[1]
    sequences = random_sequences(served, 17)
    hooks = watch(served.encoder, sequences, deep=True)
    tokens = sum(len(sequence) for sequence in sequences)
    assert {seen.moments.count for seen in hooks.norms + hooks.updates} == {tokens}
    assert {seen.count for seen in hooks.outputs} == {tokens}


def test_buckets_are_those_of_the_runtime() -> None:
    rng = np.random.default_rng(0)
    values = (rng.normal(size=5000) * 10.0 ** rng.integers(-9, 9, 5000)).astype(np.float32)
    values[:4] = [0.0, -0.0, 1e30, -1e30]
    np.testing.assert_array_equal(bucket_of(torch.from_numpy(values)).numpy(), histogram.bucket_of(values))


def test_running_moments_of_parts_are_those_of_the_whole() -> None:
    values = torch.from_numpy(np.random.default_rng(1).normal(3, 2, (90, 4)))
    parts = RunningMoments(4)
    for part in (values[:1], values[1:40], values[40:]):
        parts.add(part)
    assert parts.count == 90
    torch.testing.assert_close(parts.mean, values.mean(0))
    torch.testing.assert_close(parts.m2 / 90, values.var(0, correction=0))
    torch.testing.assert_close(parts.minimum, values.amin(0))
    torch.testing.assert_close(parts.maximum, values.amax(0))
