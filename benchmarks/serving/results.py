"""What the serving benchmark measured, and the ratios that it is about."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from benchmarks.serving.closed_loop import CLASSES, MANY, ONE, ROWS, Sample, Scenario
from benchmarks.serving.limit import NAME as LIMIT
from benchmarks.serving.open_loop import Answers
from benchmarks.serving.servers import BARE, OURS, PEERS, PLAIN
from export.timing import Timing, summarize

MAIN, EMBEDDED, INT8 = "4 layers, d_model 128", "embedded model", "4 layers, int8"
WORKERS = 4  # whose memory is measured together


Key = tuple[str, Scenario, str]  # artifact, scenario, server


@dataclass(frozen=True, slots=True)
class Phase:
    """One open loop: what was offered, and what became of it.

    Attributes:
        capacity: requests/s of the closed loop with 32 clients, in the same round.
        load: share of it that was offered.
    """

    capacity: float
    load: float
    answers: Answers


@dataclass(slots=True)
class Results:
    """Everything that was measured, round by round.

    Attributes:
        first_answer: seconds from exec to the first answer, every start, by artifact and server.
        memory: bytes of every process of a server alone (PSS).
        several: bytes of every process of a service with WORKERS workers (PSS).
    """

    samples: dict[Key, list[Sample]] = field(default_factory=dict)
    phases: list[Phase] = field(default_factory=list)
    first_answer: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    memory: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    several: list[int] = field(default_factory=list)

    def median(self, key: Key, number: Callable[[Sample], float]) -> float:
        return float(np.median([number(sample) for sample in self.samples[key]]))

    def ratio(self, mine: Key, theirs: Iterable[Key], number: Callable[[Sample], float]) -> Timing:
        """Mine over theirs in the same round; of several the largest."""
        best = [max(map(number, samples)) for samples in zip(*(self.samples[key] for key in theirs), strict=True)]
        return summarize([number(sample) for sample in self.samples[mine]], best)


@dataclass(frozen=True, slots=True)
class Target:
    """One promise of the benchmark.

    Attributes:
        measured: median over the rounds; `spread` the 10th and 90th percentile, where there are rounds.
        in_cpu_time: the same ratio of texts per second that the server really had its core; what else runs on a noisy
            machine weighs less there. nan where it says nothing.
        at_least: whether `limit` is a floor.
    """

    name: str
    measured: float
    limit: float
    at_least: bool
    spread: tuple[float, float] | None = None
    in_cpu_time: float = float("nan")

    @property
    def met(self) -> bool:
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit


@dataclass(frozen=True, slots=True)
class Floor:
    """What a server without any checks, counts or statistics reaches of no server, and ours of it.

    Throughput, or latency where one client waits for each answer.
    """

    name: str
    bare: Timing
    ours: Timing


def rate(sample: Sample) -> float:
    return sample.rate


def cpu_rate(sample: Sample) -> float:
    """Texts per second of its core's time."""
    return sample.rate / sample.busy


def median_latency(sample: Sample) -> float:
    return sample.p50


def targets(results: Results) -> list[Target]:
    """Every promise whose numbers were measured."""
    found = []
    for artifact in (MAIN, EMBEDDED):
        found += throughput_targets(results, artifact)
    found += [*overload_targets(results.phases), *cost_targets(results)]
    mine, theirs = (INT8, ROWS, OURS), (MAIN, ROWS, OURS)
    if mine in results.samples:
        found.append(throughput("int8 / fp32, rows/s", results, mine, [theirs], 1.4))
    return found


# What is promised of a scenario, beside whom, and at least how much: of the main artifact, and of the embedded one.
TARGETS: dict[tuple[Scenario, str, tuple[str, ...]], tuple[float, float]] = {
    (MANY, "32 clients / no HTTP (sorted batches of 32)", (LIMIT,)): (0.85, 0.75),
    (MANY, "32 clients / plain FastAPI", (PLAIN,)): (2.2, 2.2),
    (MANY, "32 clients / best of the other servers", tuple(PEERS)): (3.0, 3.0),
    (ROWS, "requests of 32 texts, rows/s / no HTTP", (LIMIT,)): (0.97, 0.97),
    (CLASSES, "32 clients, all classes / no HTTP (the logits)", (LIMIT,)): (0.75, 0.75),
}
UNLIKE = {CLASSES: MANY}  # without a server all logits are there in any case


def throughput_targets(results: Results, artifact: str) -> list[Target]:
    """Against the limit, plain FastAPI and the best of the other servers, as far as they were measured."""
    found = []
    for (scenario, name, others), limit in TARGETS.items():
        mine = artifact, scenario, OURS
        theirs = [
            key for other in others if (key := (artifact, UNLIKE.get(scenario, scenario), other)) in results.samples
        ]
        if mine in results.samples and theirs:
            found.append(throughput(f"{artifact}: {name}", results, mine, theirs, limit[artifact == EMBEDDED]))
    one = artifact, ONE, OURS
    if one in results.samples:
        latency = results.ratio(one, [(artifact, ONE, LIMIT)], median_latency)
        in_cpu = 1 / results.ratio(one, [(artifact, ONE, LIMIT)], cpu_rate).ratio
        name = f"{artifact}: one client, median latency / (tokenize + run) without HTTP"
        found.append(Target(name, latency.ratio, 1.55, False, latency.spread, in_cpu))
    return found


def floors(results: Results) -> list[Floor]:
    """Of every artifact that the bare server had; the limit of all classes is the run that has all logits."""
    found = []
    for artifact in (MAIN, EMBEDDED):
        for scenario in (MANY, ROWS, CLASSES, ONE):
            number = median_latency if scenario is ONE else rate
            ours, bare = (artifact, scenario, OURS), (artifact, scenario, BARE)
            limit = artifact, UNLIKE.get(scenario, scenario), LIMIT
            if {ours, bare, limit} <= results.samples.keys():
                name = f"{artifact}: {scenario.name}" + (", latency" if scenario is ONE else "")
                floor = results.ratio(bare, [limit], number), results.ratio(ours, [bare], number)
                found.append(Floor(name, *floor))
    return found


def throughput(name: str, results: Results, mine: Key, theirs: list[Key], limit: float) -> Target:
    found = results.ratio(mine, theirs, rate)
    return Target(name, found.ratio, limit, True, found.spread, results.ratio(mine, theirs, cpu_rate).ratio)


def overload_targets(phases: list[Phase]) -> list[Target]:
    """Latency under an open load; a request of each kind must have been answered in every round."""
    p99 = {load: [percentile(phase, 99) for phase in phases if phase.load == load] for load in (0.5, 1.0, 5.0)}
    if not all(p99.values()):
        return []
    p50 = [percentile(phase, 50) for phase in phases if phase.load == 0.5]
    half, overload = summarize(p99[0.5], p50), summarize(p99[5.0], p99[1.0])
    return [
        Target("p99 / p50 at half of capacity, open loop", half.ratio, 3, False, half.spread),
        Target("accepted requests' p99 at 5x overload / at capacity", overload.ratio, 1.5, False, overload.spread),
    ]


def percentile(phase: Phase, percent: float, status: int = 200) -> float:
    """Seconds; nan where no request was answered with that status."""
    latency = phase.answers.latency(status)
    return float(np.percentile(latency, percent)) if len(latency) else float("nan")


def cost_targets(results: Results) -> list[Target]:
    found = []
    if results.several:
        found.append(Target(f"PSS a worker of {WORKERS}, MB", sum(results.several) / 1e6 / WORKERS, 90, False))
    mine, theirs = (results.first_answer.get((MAIN, name), []) for name in (OURS, PLAIN))
    if mine and len(mine) == len(theirs):
        start = summarize(mine, theirs)
        found.append(Target("exec to first answer / plain FastAPI", start.ratio, 1.2, False, start.spread))
    return found
