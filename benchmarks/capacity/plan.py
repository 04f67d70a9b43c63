"""The least number of workers for a rate, by simulation, and what they take of everything else."""

import math
from dataclasses import dataclass

import numpy as np

from benchmarks.capacity.costs import Costs
from benchmarks.capacity.dispatch import POLICIES
from benchmarks.capacity.simulate import Simulated, poisson_load, simulate
from benchmarks.capacity.store import Exchange, exchange
from service.cpus import MOST_WORKERS

REQUESTS, SEEDS = 30_000, 3  # of a simulation; simulations, of which the worst counts
SLICE = 100  # most workers that are simulated: of more, a slice with its share of the rate
LEAST_LIMIT, TIMES_ALONE = 0.05, 5  # seconds, and times one request alone: the larger one is the limit of p99
GIVE_UP = 4  # times the workers that the utilization asks for


@dataclass(frozen=True, slots=True)
class Aim:
    """What is wanted.

    Attributes:
        rate: requests a second.
        p99: limit of the latency that 99 % of the requests keep, in seconds.
        utilization: most of the measured capacity that is used; the rest is for peaks, and for a worker that fails.
        cores: of a machine.
        burst: requests that come together, on average.
    """

    rate: float
    p99: float
    utilization: float = 0.7
    cores: int = 8
    burst: float = 1.0


@dataclass(frozen=True, slots=True)
class Fleet:
    """So many workers behind one policy, simulated; seconds.

    Attributes:
        utilization: share of the time in which workers work.
        batch: requests in a batch, on average.
        met: whether p99 keeps its limit.
    """

    policy: str
    workers: int
    utilization: float
    p50: float
    p99: float
    batch: float
    met: bool


@dataclass(frozen=True, slots=True)
class Needs:
    """What so many workers take, beside a core for each.

    Attributes:
        machines: of the aim's cores.
        replicas: services, each with at most 8 workers: they tell one another what they counted.
        memory: bytes, PSS.
        bits_in, bits_out: a second, frames included.
        frames: a second, both ways.
        under_way: requests at a time, on average (Little 1961): at least so many connections are busy.
        exchange: between the replicas.
    """

    machines: int
    replicas: int
    memory: float
    bits_in: float
    bits_out: float
    frames: float
    under_way: float
    exchange: Exchange


def p99_limit(costs: Costs, milliseconds: float | None) -> float:
    """Seconds; the user's limit, or five times the time of one request alone and at least 50 ms."""
    return milliseconds / 1e3 if milliseconds else max(TIMES_ALONE * costs.alone, LEAST_LIMIT)


def least_workers(costs: Costs, aim: Aim) -> int:
    """That keep the utilization, whatever their latency is."""
    return max(1, math.ceil(aim.rate / (aim.utilization * costs.most.answered)))


def try_fleet(costs: Costs, aim: Aim, policy: str, workers: int) -> Fleet:
    """Simulates so many workers, or a slice of them, several times; the worst p99 counts."""
    simulated = min(workers, SLICE)
    rate = aim.rate * simulated / workers
    lengths, worker, runs = np.array(costs.lengths, dtype=float), costs.worker(), list[Simulated]()
    for seed in range(SEEDS):
        load = poisson_load(rate, REQUESTS / rate, lengths, np.random.default_rng(seed), costs.rows, aim.burst)
        runs.append(simulate(worker, simulated, POLICIES[policy], load, seed))
    p99 = max(run.percentile(99) for run in runs) + costs.wire
    return Fleet(
        policy,
        workers,
        float(np.mean([run.utilization for run in runs])),
        float(np.median([run.percentile(50) for run in runs])) + costs.wire,
        p99,
        float(np.mean([run.batch for run in runs])),
        p99 <= aim.p99,
    )


def smallest_fleet(costs: Costs, aim: Aim, policy: str) -> Fleet:
    """The fewest workers that keep utilization and latency; the largest fleet that was tried where none does."""
    low = least_workers(costs, aim)
    found = try_fleet(costs, aim, policy, low)
    if found.met:
        return found
    most = GIVE_UP * low
    while not found.met and found.workers < most:
        low = found.workers
        found = try_fleet(costs, aim, policy, min(most, max(low + 1, math.ceil(1.25 * low))))
    while found.met and found.workers - low > max(1, low // 50):  # to 2 %
        middle = try_fleet(costs, aim, policy, (low + found.workers) // 2)
        low, found = (low, middle) if middle.met else (middle.workers, found)
    return found


def plan(costs: Costs, aim: Aim) -> list[Fleet]:
    """The smallest fleet of each policy."""
    return [smallest_fleet(costs, aim, policy) for policy in POLICIES]


def needs(costs: Costs, aim: Aim, fleet: Fleet) -> Needs:
    """What a fleet takes, from what was measured of one worker."""
    machines = math.ceil(fleet.workers / aim.cores)
    replicas = math.ceil(fleet.workers / min(aim.cores, MOST_WORKERS))
    sent, received = costs.wire_bytes()
    return Needs(
        machines,
        replicas,
        replicas * costs.base_memory + fleet.workers * costs.worker_memory,
        8 * sent * aim.rate,
        8 * received * aim.rate,
        costs.frames() * aim.rate,
        aim.rate * fleet.p50,
        exchange(costs.norms, replicas),
    )
