from dataclasses import fields
from itertools import pairwise
from random import Random
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.graph.packing import (
    RUN_TOKENS,
    PackedBatch,
    first_fit,
    lay_out,
    like_lengths,
    pack,
    pack_one,
    pad,
    to_batches,
)
from runtime.manifest import PoolingKind

lengths = st.lists(st.integers(1, 60), min_size=1, max_size=40)
widths = st.integers(1, 50)
every_pooling = pytest.mark.parametrize("pooling", get_args(PoolingKind))


def token_ids(lengths: list[int]) -> list[np.ndarray]:
    """Sequences in which every token of the batch is another one, counted from 1."""
    return np.split(np.arange(1, sum(lengths) + 1), np.cumsum(lengths)[:-1])


def in_order(batch: PackedBatch, array: np.ndarray) -> np.ndarray:
    return array.ravel()[batch.token_index]


@given(lengths, widths)
def test_pack_places_every_token_exactly_once(lengths: list[int], width: int):
    batch = pack(token_ids(lengths), width)
    everything = np.arange(1, sum(lengths) + 1)
    np.testing.assert_array_equal(in_order(batch, batch.values), everything)
    np.testing.assert_array_equal(np.sort(batch.values[batch.values != 0]), everything)
    assert (batch.rows, batch.tokens, batch.lengths.tolist()) == (len(lengths), sum(lengths), lengths)


@given(lengths, widths)
def test_pack_restarts_positions_in_every_segment(lengths: list[int], width: int):
    batch = pack(token_ids(lengths), width)
    np.testing.assert_array_equal(in_order(batch, batch.position_ids), np.concatenate([np.arange(n) for n in lengths]))


@given(lengths, widths)
def test_pack_keeps_segments_apart(lengths: list[int], width: int):
    batch = pack(token_ids(lengths), width)
    np.testing.assert_array_equal(in_order(batch, batch.segment_ids), np.repeat(np.arange(len(lengths)) + 1, lengths))
    np.testing.assert_array_equal(batch.segment_ids != 0, batch.values != 0)
    for row, where in enumerate(np.split(batch.token_index, np.cumsum(lengths)[:-1])):
        np.testing.assert_array_equal(where, where[0] + np.arange(lengths[row]))
        assert where[0] // batch.values.shape[1] == where[-1] // batch.values.shape[1], "a sequence lies in two packs"


@given(lengths, widths)
def test_pooling_averages_every_sequence(lengths: list[int], width: int):
    sequences = token_ids(lengths)
    batch = pack(sequences, width)
    np.testing.assert_allclose(batch.pooling.sum(1), 1, rtol=1e-5)
    np.testing.assert_array_equal(batch.pooling != 0, batch.segment_ids.ravel() == np.arange(batch.rows)[:, None] + 1)
    averages = batch.pooling.astype(np.float64) @ batch.values.ravel()
    np.testing.assert_allclose(averages, [sequence.mean() for sequence in sequences], rtol=1e-5)


@given(lengths, widths)
def test_pack_respects_the_width(lengths: list[int], width: int):
    packs, tokens = pack(token_ids(lengths), width).values.shape
    assert tokens <= max(width, max(lengths))
    assert packs <= len(lengths)


@given(lengths, widths)
def test_first_fit_leaves_no_two_packs_that_would_fit_into_one(lengths: list[int], width: int):
    width = max(width, max(lengths))
    packs, _, count = first_fit(lengths, width)
    used = np.bincount(packs, weights=lengths)
    assert len(used) == count
    assert (used <= width).all()
    assert count == 1 or np.partition(used, 1)[:2].sum() > width


def test_first_fit_takes_the_longest_first():
    assert first_fit([10, 25, 30, 15], 40) == ([0, 1, 0, 1], [30, 0, 0, 25], 2)


def test_pack_of_a_single_sequence_is_the_sequence():
    batch = pack([np.array([7, 8, 9])])
    assert batch.values.tolist() == [[7, 8, 9]]
    assert batch.position_ids.tolist() == [[0, 1, 2]]
    assert batch.segment_ids.tolist() == [[1, 1, 1]]
    np.testing.assert_allclose(batch.pooling, [[1 / 3] * 3])


def test_pack_lays_features_side_by_side():
    first, second = np.ones((2, 3), dtype=np.float32), np.full((1, 3), 2, dtype=np.float32)
    batch = pack([first, second], width=3)
    assert batch.values.shape == (1, 3, 3)
    assert batch.values.dtype == np.float32
    np.testing.assert_array_equal(batch.values[0], np.concatenate([first, second]))


def test_pack_has_the_types_that_graphs_take():
    batch = pack(token_ids([3, 2]))
    types = [array.dtype for array in (batch.values, batch.position_ids, batch.segment_ids, batch.pooling)]
    assert types == [np.int64, np.int64, np.int64, np.float32]


def pooled(vectors: np.ndarray, pooling: PoolingKind) -> np.ndarray:
    """One vector of a sequence's, as sentence-transformers defines it."""
    rank = np.arange(1, len(vectors) + 1)
    return {
        "mean": vectors.mean(0),
        "cls": vectors[0],
        "last": vectors[-1],
        "weighted": (rank[:, None] * vectors).sum(0) / rank.sum(),
    }[pooling]


@pytest.mark.parametrize("pooling", ["mean", "cls", "last", "weighted"])
@given(lengths, widths)
def test_every_pooling_is_its_formula(pooling: PoolingKind, lengths: list[int], width: int):
    sequences = token_ids(lengths)
    batch = pack(sequences, width, pooling)
    vectors = np.random.default_rng(0).normal(size=(batch.values.size, 3))
    expected = [pooled(vectors[rows], pooling) for rows in np.split(batch.token_index, np.cumsum(lengths)[:-1])]
    np.testing.assert_allclose(batch.pooling.astype(np.float64) @ vectors, expected, rtol=1e-5, atol=1e-6)


@every_pooling
@given(lengths, widths)
def test_every_pooling_takes_from_its_own_sequence_alone(pooling: PoolingKind, lengths: list[int], width: int):
    batch = pack(token_ids(lengths), width, pooling)
    own = batch.segment_ids.ravel() == np.arange(batch.rows)[:, None] + 1
    assert batch.pooling.dtype == np.float32
    assert (batch.pooling[~own] == 0).all()
    np.testing.assert_allclose(batch.pooling.sum(1), 1, rtol=1e-5)
    if pooling in ("weighted", "max"):
        assert (batch.pooling[own] > 0).all()


@every_pooling
@given(st.integers(1, 60))
def test_a_single_sequence_is_pooled_as_in_company(pooling: PoolingKind, length: int):
    alone = pack_one(np.arange(1, length + 1), pooling)
    company = pack([np.arange(1, length + 1), np.array([5])], length, pooling)
    for field in fields(alone):
        assert getattr(alone, field.name).dtype == getattr(company, field.name).dtype, field.name
    np.testing.assert_array_equal(alone.values[0], company.values[0, :length])
    np.testing.assert_array_equal(alone.position_ids[0], company.position_ids[0, :length])
    np.testing.assert_array_equal(alone.pooling[0], company.pooling[0, :length])
    np.testing.assert_array_equal(alone.token_index, company.token_index[:length])


@every_pooling
def test_pack_of_one_is_pack_one(pooling: PoolingKind):
    sequence = np.array([7, 8, 9])
    for field in fields(PackedBatch):
        found, expected = (getattr(b, field.name) for b in (pack([sequence], 40, pooling), pack_one(sequence, pooling)))
        np.testing.assert_array_equal(found, expected)


def test_token_types_travel_with_their_tokens():
    first, second = np.array([[5, 0], [6, 1]]), np.array([[7, 1]])
    batch = pack([first, second], width=3)
    np.testing.assert_array_equal(batch.values, [[[5, 0], [6, 1], [7, 1]]])
    np.testing.assert_array_equal(pack_one(first).values, [first])


@every_pooling
@given(lengths)
def test_pad_has_one_row_for_each_sequence(pooling: PoolingKind, lengths: list[int]):
    batch, longest = pad(token_ids(lengths), pooling), max(lengths)
    assert (batch.rows, batch.tokens, batch.lengths.tolist()) == (len(lengths), sum(lengths), lengths)
    np.testing.assert_array_equal(batch.token_index, np.flatnonzero(batch.segment_ids))
    for row, sequence in enumerate(token_ids(lengths)):
        alone, rest = pack_one(sequence, pooling), (0, longest - len(sequence))
        weights = np.zeros((len(lengths), longest))
        weights[row, : len(sequence)] = alone.pooling[0]
        np.testing.assert_array_equal(batch.values[row], np.pad(sequence, rest))
        np.testing.assert_array_equal(batch.position_ids[row], np.pad(alone.position_ids[0], rest))
        np.testing.assert_array_equal(batch.segment_ids[row], np.pad((row + 1) * alone.segment_ids[0], rest))
        np.testing.assert_array_equal(batch.pooling[row], weights.ravel())


@every_pooling
def test_pad_of_one_is_the_sequence(pooling: PoolingKind):
    sequence = np.array([7, 8, 9])
    for field in fields(PackedBatch):
        found, expected = (getattr(b, field.name) for b in (pad([sequence], pooling), pack_one(sequence, pooling)))
        np.testing.assert_array_equal(found, expected)


def test_pad_fills_types_and_features_with_zeros():
    batch = pad([np.array([[5, 1]]), np.array([[6, 0], [7, 1]])])
    np.testing.assert_array_equal(batch.values, [[[5, 1], [0, 0]], [[6, 0], [7, 1]]])
    features = pad([np.ones((1, 3), dtype=np.float32), np.ones((2, 3), dtype=np.float32)]).values
    assert features.dtype == np.float32 and features.shape == (2, 2, 3) and features[0, 1].tolist() == [0, 0, 0]


@given(lengths, widths, st.randoms(use_true_random=False))
def test_sequences_lie_where_they_are_put(lengths: list[int], gap: int, random: Random):
    packs = random.sample(range(len(lengths) + 3), len(lengths))
    offsets = [random.randrange(gap) for _ in lengths]
    batch = lay_out(token_ids(lengths), packs, offsets, len(lengths) + 3, "mean")
    assert batch.values.shape == (len(lengths) + 3, max(map(sum, zip(offsets, lengths, strict=True))))
    for row, sequence in enumerate(token_ids(lengths)):
        here = slice(offsets[row], offsets[row] + len(sequence))
        np.testing.assert_array_equal(batch.values[packs[row], here], sequence)
        np.testing.assert_array_equal(np.argwhere(batch.segment_ids == row + 1)[:, 1], range(here.start, here.stop))
    assert np.count_nonzero(batch.values) == sum(lengths)


@given(st.lists(st.integers(1, 300), max_size=120))
def test_rows_of_like_lengths_share_a_run_as_long_as_padding_is_cheap(lengths: list[int]):
    groups = like_lengths(lengths)
    assert sorted(row for group in groups for row in group) == list(range(len(lengths)))
    assert [lengths[row] for group in groups for row in group] == sorted(lengths, reverse=True)
    padding = [sum(lengths[group[0]] - lengths[row] for row in group) for group in groups]
    assert all(tokens <= RUN_TOKENS for tokens in padding)
    for (group, following), tokens in zip(pairwise(groups), padding, strict=False):
        assert tokens + lengths[group[0]] - lengths[following[0]] > RUN_TOKENS


def test_rows_are_grouped_as_their_padding_costs():
    assert like_lengths([]) == [] and like_lengths([5]) == [[0]]
    assert like_lengths([100, 36, 100]) == [[0, 2, 1]]
    assert like_lengths([35, 100]) == [[1], [0]]
    assert like_lengths([10, 74, 42, 42]) == [[1, 2, 3], [0]]


def test_a_graph_gets_one_batch_of_packs_or_padded_ones_of_like_lengths():
    sequences = token_ids([200, 2, 3, 199])
    (packed,) = to_batches(sequences, padded=False)
    assert packed.rows == 4 and packed.tokens == 404
    batches = to_batches(sequences, padded=True)
    assert [batch.values.shape for batch in batches] == [(2, 200), (2, 3)]
    for batch in batches:  # one text to a row, and its tokens alone are valid
        assert batch.segment_ids.max(1).tolist() == [1, 2]
        np.testing.assert_array_equal(
            np.sort(batch.values[batch.values > 0]), np.sort(batch.values.ravel()[batch.token_index])
        )
    assert sum(batch.tokens for batch in batches) == 404
