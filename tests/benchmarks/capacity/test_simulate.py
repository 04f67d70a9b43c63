"""The simulated workers against what queueing theory says of them, and against themselves."""

import math

import numpy as np
import pytest

from benchmarks.capacity.dispatch import POLICIES, LeastLoaded, Pool, TwoChoices, at_random, round_robin
from benchmarks.capacity.simulate import Load, Simulated, Worker, poisson_load, simulate

ONE_AT_A_TIME = Worker(read=0.0, write=0.0, batch=0.0, token=1e-3, max_batch_tokens=1e-9)
EMBEDDED = Worker(read=4e-5, write=2e-5, batch=6e-5, token=6e-6, max_batch_tokens=512)
EVERY = [*POLICIES.values(), Pool, at_random]


def load(rate: float, requests: int, seed: int = 1, lengths: tuple[float, ...] = (1.0,), burst: float = 1.0) -> Load:
    return poisson_load(rate, requests / rate, np.array(lengths), np.random.default_rng(seed), burst=burst)


def mean_wait(found: Simulated, service: float) -> float:
    return float(found.latency[len(found.latency) // 10 :].mean()) - service


def pollaczek_khinchine(rate: float, mean: float, square: float) -> float:
    """Mean seconds in the queue of an M/G/1 server, of its service time's mean and mean square."""
    return rate * square / (2 * (1 - rate * mean))


@pytest.mark.parametrize(("utilization", "requests"), [(0.3, 15_000), (0.6, 20_000), (0.8, 50_000)])
def test_one_at_a_time_waits_as_in_an_m_d_1_queue(utilization: float, requests: int) -> None:
    found = simulate(ONE_AT_A_TIME, 1, round_robin, load(utilization / 1e-3, requests))
    expected = pollaczek_khinchine(utilization / 1e-3, 1e-3, 1e-6)
    assert mean_wait(found, 1e-3) == pytest.approx(expected, rel=0.04)
    assert found.utilization == pytest.approx(utilization, rel=0.02)
    assert found.batch == 1


def test_random_lengths_wait_as_in_an_m_m_1_queue() -> None:
    rng, requests, rate = np.random.default_rng(2), 30_000, 600.0
    given = Load(np.cumsum(rng.exponential(1 / rate, requests)), rng.exponential(1.0, requests))
    found = simulate(ONE_AT_A_TIME, 1, round_robin, given)
    assert mean_wait(found, 1e-3) == pytest.approx(pollaczek_khinchine(rate, 1e-3, 2e-6), rel=0.06)


@pytest.mark.parametrize("rate", [200.0, 1000.0, 5000.0])
def test_batches_of_any_size_hold_what_came_during_the_one_before(rate: float) -> None:
    """Batches that all run for a: what waits after one is Poisson(rate a), and 1 where that is 0."""
    found = simulate(Worker(0.0, 0.0, 1e-3, 0.0, 1e9), 1, round_robin, load(rate, 10_000))
    assert found.batch == pytest.approx(rate * 1e-3 + math.exp(-rate * 1e-3), rel=0.02)


def test_batches_without_a_cost_of_their_own_are_a_processor_of_rate_1_over_b() -> None:
    given = load(700.0, 8_000)
    together, alone = (simulate(Worker(0.0, 0.0, 0.0, 1e-3, most), 1, round_robin, given) for most in (512.0, 1.0))
    assert together.utilization == pytest.approx(alone.utilization, rel=1e-9)
    assert together.batch > 1.3 > alone.batch
    assert (given.due + together.latency).max() == pytest.approx((given.due + alone.latency).max())
    full = simulate(Worker(0.0, 0.0, 0.0, 1e-3, 512.0), 1, round_robin, load(5000.0, 8_000))
    assert full.answers / (full.latency + load(5000.0, 8_000).due).max() == pytest.approx(1000, rel=0.01)


def test_capacity_is_what_an_overloaded_worker_answers() -> None:
    lengths = np.full(1, 8.0)
    given = poisson_load(40_000, 0.5, lengths, np.random.default_rng(0))
    found = simulate(EMBEDDED, 1, round_robin, given)
    answered = found.answers / float((given.due + found.latency).max())
    assert answered == pytest.approx(EMBEDDED.capacity(8.0), rel=0.02)


@pytest.mark.parametrize("policy", EVERY)
@pytest.mark.parametrize("rows", [1, 7, 128])
def test_every_request_is_answered_once(policy: type[Pool], rows: int) -> None:
    given = poisson_load(20_000 / rows, 0.3, np.array([3.0, 9.0, 40.0]), np.random.default_rng(3), rows, burst=4)
    found = simulate(EMBEDDED, 3, policy, given)
    assert found.answers == len(given.due) == np.isfinite(found.latency).sum()
    assert (found.latency >= EMBEDDED.token * given.tokens).all()


def test_dispatch_that_knows_more_waits_less() -> None:
    """Batches of one, where a wait is not shared."""
    given = load(8 * 0.8 / 1e-3, 8_000)
    waits = {policy: mean_wait(simulate(ONE_AT_A_TIME, 8, policy, given), 1e-3) for policy in EVERY}
    assert waits[LeastLoaded] < waits[TwoChoices] < waits[at_random]
    assert waits[round_robin] < waits[at_random]
    assert waits[at_random] < waits[POLICIES["by connection"]]


@pytest.mark.parametrize("rate", [4_000.0, 16_000.0, 28_000.0])
def test_round_robin_is_no_worse_than_random_where_batches_form(rate: float) -> None:
    given = load(rate, 6_000, lengths=(6.0, 9.0, 12.0))
    turn, anywhere = (simulate(EMBEDDED, 4, policy, given) for policy in (round_robin, at_random))
    assert turn.latency.mean() <= anywhere.latency.mean()


def test_bursts_wait_for_one_another() -> None:
    single, together = (simulate(EMBEDDED, 2, round_robin, load(3000.0, 8_000, burst=burst)) for burst in (1, 10))
    assert together.percentile(99) > 1.5 * single.percentile(99)


def test_pauses_hold_up_what_comes_in_them() -> None:
    """A worker that stands still for 10 ms of every 100 ms, of 1 % of whose time nothing else is known."""
    paused = Worker(4e-5, 2e-5, 6e-5, 6e-6, 512, pauses=(0.01,), pause_rate=100 / 9)
    found, without = (simulate(worker, 1, round_robin, load(1000.0, 10_000)) for worker in (paused, EMBEDDED))
    assert found.utilization == pytest.approx(without.utilization, rel=0.1)  # a pause is no work
    assert found.percentile(50) < 2 * without.percentile(50)
    assert 0.005 < found.percentile(99) < 0.03


def test_the_same_seed_gives_the_same() -> None:
    given = load(9000.0, 5_000)
    first, again = (simulate(EMBEDDED, 3, TwoChoices, given, seed=4).latency for _ in range(2))
    assert (first == again).all()
    assert (first != simulate(EMBEDDED, 3, TwoChoices, given, seed=5).latency).any()


def test_50_000_a_second_are_simulated_in_seconds() -> None:
    """With hundreds of workers: slow ones."""
    slow = Worker(4e-5, 2e-5, 3e-3, 4e-4, 512)
    found = simulate(slow, 400, LeastLoaded, load(50_000.0, 12_000, lengths=(9.0,)))
    assert found.answers > 11_000
