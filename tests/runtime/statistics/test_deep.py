"""Deep statistics: exact against a float64 pass, mergeable in any order, and kept within their budget of time."""

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.graph.packing import PackedBatch, to_batches
from runtime.manifest import NormLayer
from runtime.statistics.deep import BURST, ROWS, TOLL, DeepSampler, DeepState
from tests.helpers import assert_same_moments, merge_anyhow, split_anyhow

LAYERS = [
    NormLayer(name=name, kind="layer_norm", placement="post", d_model=3, eps=1e-5, add=add)
    for name, add in (("embeddings.norm", False), ("blocks.0.attention.norm", True))
]


def state_of(rows: np.ndarray) -> DeepState:
    """Rows [N, 6 + 6 + 2 + 1]: what entered, what left, an Add's numbers, whether a token is a first one."""
    return DeepState.of(len(rows), rows[:, :6], rows[:, 6:12], rows[:, 12:14], rows[:, 14] > 0)


@given(st.integers(1, 60), st.randoms(use_true_random=False))
def test_any_split_in_any_order_equals_one_pass(size: int, random: Random):
    rows = np.random.default_rng(size).normal(2, 30, (size, 15))
    whole = DeepState.empty(LAYERS).merge(state_of(rows))
    merged = merge_anyhow([DeepState.empty(LAYERS), *(state_of(part) for part in split_anyhow(rows, random))], random)
    assert (merged.requests, merged.tokens) == (whole.requests, whole.tokens) == (size, size)
    np.testing.assert_array_equal(merged.largest, whole.largest)
    assert_same_moments(merged.outputs, whole.outputs, 1e-12)
    assert_same_moments(merged.adds, whole.adds, 1e-12)


def test_state_matches_a_plain_pass():
    rows = np.random.default_rng(3).normal(size=(50, 15))
    state, first = state_of(rows), rows[:, 14] > 0
    np.testing.assert_allclose(state.outputs.mean, rows[:, 6:12].mean(0))
    np.testing.assert_allclose(state.outputs.std, rows[:, 6:12].std(0))
    np.testing.assert_array_equal(state.largest[0], np.abs(rows[first, :6]).max(0))
    np.testing.assert_array_equal(state.largest[1], np.abs(rows[~first, :6]).max(0))
    np.testing.assert_allclose(state.adds.mean, rows[:, 12:14].mean(0))


def test_what_is_not_finite_is_left_out():
    rows = np.ones((4, 15))
    rows[1, [0, 6, 12]] = np.nan
    rows[2, 1] = -np.inf
    state = state_of(rows)
    assert np.isfinite(state.largest).all() and np.isfinite(state.outputs.mean).all()
    assert state.outputs.count.tolist() == [3, 4, 4, 4, 4, 4]
    assert state.adds.count.tolist() == [3, 4]


def test_state_fits_its_own_layers_only():
    assert DeepState.empty(LAYERS).fits(LAYERS)
    assert not DeepState.empty(LAYERS).fits(LAYERS[:1])


class Machine:
    """A clock, and a graph whose look takes some of its time."""

    def __init__(self, cost: float) -> None:
        self.now, self.cost, self.seen = 0.0, cost, [0]

    def clock(self) -> float:
        return self.now

    def run(self, batch: PackedBatch) -> list[np.ndarray]:
        self.now += self.cost
        self.seen.append(batch.rows)
        return [np.zeros((batch.tokens, columns), dtype=np.float32) for columns in (6, 6, 2)]


def serve(machine: Machine, sampler: DeepSampler, seconds: float, gap: float) -> None:
    """Answers a batch of 8 sequences every `gap` seconds, for so long."""
    sequences = [np.arange(1, 5)] * 8
    while machine.now < seconds:
        machine.now += gap
        if sampler.due:
            sampler.look(sequences)


@pytest.mark.parametrize("cost", [0.0001, 0.001])
def test_looks_take_the_budget_of_a_busy_worker(cost: float):
    machine = Machine(cost)
    sampler = DeepSampler(machine.run, 0.02, machine.clock)
    serve(machine, sampler, seconds=30, gap=0.001)
    assert sampler.spent / machine.now == pytest.approx(0.02, rel=0.05)


def test_the_sampling_follows_what_a_look_costs():
    machine = Machine(0.001)
    sampler = DeepSampler(machine.run, 0.02, machine.clock)
    serve(machine, sampler, seconds=60, gap=0.001)
    machine.cost *= 10
    spent = sampler.spent
    serve(machine, sampler, seconds=120, gap=0.001)
    assert (sampler.spent - spent) / 60 == pytest.approx(0.02, rel=0.1)


def test_a_quiet_worker_looks_at_every_batch_and_saves_up_a_little():
    machine = Machine(0.001)
    sampler = DeepSampler(machine.run, 0.02, machine.clock)
    serve(machine, sampler, seconds=20, gap=1.0)
    assert len(machine.seen) - 1 >= 19
    assert set(machine.seen[1:]) == {ROWS}
    machine.now += 3600
    before = sampler.spent
    serve(machine, sampler, seconds=machine.now + 1, gap=0.0001)
    assert sampler.spent - before <= (BURST + 1) * 0.02 + 2 * TOLL * 0.001


def test_no_budget_no_looks():
    machine = Machine(0.001)
    sampler = DeepSampler(machine.run, 0.0, machine.clock)
    serve(machine, sampler, seconds=5, gap=0.01)
    assert sampler.spent == 0


def test_fewer_sequences_than_rows_are_all_looked_at():
    machine = Machine(0.001)
    sampler = DeepSampler(machine.run, 1.0, machine.clock)
    sampler.look([np.arange(3)] * 2)
    assert machine.seen == [0, 2]


@pytest.mark.parametrize(("length", "rows"), [(64, 4), (65, 3), (128, 2), (200, 1), (5000, 1)])
def test_a_look_at_long_requests_is_at_fewer_of_them(length: int, rows: int):
    machine = Machine(0.001)
    DeepSampler(machine.run, 1.0, machine.clock).look([np.arange(length)] * 8)
    assert machine.seen == [0, rows]


def test_a_padded_graph_looks_at_texts_of_like_lengths_together():
    machine = Machine(0.001)
    sampler = DeepSampler(machine.run, 1.0, machine.clock, batches=lambda texts: to_batches(texts, padded=True))
    state = sampler.look([np.arange(1, length + 1) for length in (90, 4, 5, 91)])
    assert sorted(machine.seen) == [0, 2, 2]
    assert (state.requests, state.tokens, state.outputs.count.tolist()) == (4, 190, [190] * 6)


def test_layers_may_differ_in_width_and_have_no_adds():
    layers = [LAYERS[0].model_copy(update={"d_model": width}) for width in (2, 5)]
    empty = DeepState.empty(layers)
    rows = np.random.default_rng(0).normal(size=(9, 7))
    state = DeepState.of(3, rows, rows, np.zeros((9, 0)), np.arange(9) < 3)
    assert state.fits(layers) and not state.fits(layers[:1])
    assert_same_moments(empty.merge(state).outputs, state.outputs, 1e-12)
    assert len(state.adds.count) == 0
