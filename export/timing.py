"""Short paired measurements of graphs, on the CPU with one thread: which plan is fastest, what int8 is worth."""

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from statistics import geometric_mean
from typing import Any, TypeVar

import onnxruntime as ort

from runtime.artifact import Artifact
from runtime.graph.encoder import Encoder
from runtime.graph.packing import Tokens, pack, pad
from runtime.graph.providers import CPU
from runtime.graph.session import PLANS
from runtime.precision import Plan, PlanName

ROUNDS, FEWEST_ROUNDS = 20, 3
PATIENCE = 20.0  # seconds for the rounds of a large model
LONGEST = 128  # tokens; longer texts are cut
BATCHES = {"batch 1": (1, 32), "batch 32": (32, 2)}  # rows in a batch, batches in a round

Name = TypeVar("Name", bound=str)


def with_plan(artifact: Artifact, sequences: Sequence[Tokens]) -> Artifact:
    """`artifact`, its manifest with the plan that runs `sequences` fastest; as it is where none is used."""
    if artifact.manifest.precision_kind == "bf16":
        return artifact
    encoders = {name: Encoder(with_manifest(artifact, plan=plan(name))) for name in PLANS}
    speed = graph_speeds(encoders, sequences)
    fastest = max(PLANS, key=lambda name: geometric_mean(speed[name].values()))
    return with_manifest(artifact, plan=plan(fastest, speed))


def plan(name: PlanName, speed: dict[PlanName, dict[str, float]] | None = None) -> Plan:
    return Plan(name=name, onnxruntime=ort.__version__, provider=CPU, speed=speed or {})


def with_manifest(artifact: Artifact, **changes: Any) -> Artifact:
    return replace(artifact, manifest=artifact.manifest.model_copy(update=changes))


def graph_speeds(encoders: Mapping[Name, Encoder], sequences: Sequence[Tokens]) -> dict[Name, dict[str, float]]:
    """Rows per second of every encoder's graph over those of the first one's, by batch size; packing not counted."""
    speed: dict[Name, dict[str, float]] = {name: {} for name in encoders}
    for title, (rows, number) in BATCHES.items():
        endless = cycle([sequence[:LONGEST] for sequence in sequences])
        groups = [list(islice(endless, rows)) for _ in range(number)]
        runners: dict[str, Callable[[], object]] = {name: runner(encoder, groups) for name, encoder in encoders.items()}
        timings = compare(runners, rounds_for(runners.values()))
        for name in encoders:
            speed[name][title] = round(1 / timings[name].ratio, 3)
    return speed


def rounds_for(runners: Iterable[Callable[[], object]]) -> int:
    """As many as there is time for."""
    started = time.perf_counter()
    for run in runners:
        run()
    return max(FEWEST_ROUNDS, min(ROUNDS, int(PATIENCE / (time.perf_counter() - started))))


def runner(encoder: Encoder, groups: list[list[Tokens]]) -> Callable[[], None]:
    """Runs the encoder's graph once on each group."""
    lay_out = pad if encoder.padded else pack
    feeds = [encoder.feeds(lay_out(group, pooling=encoder.pooling, step=encoder.step)) for group in groups]

    def run() -> None:
        for feed in feeds:
            encoder.session.run(None, feed)

    return run


@dataclass(frozen=True, slots=True)
class Timing:
    """One variant's result.

    Attributes:
        seconds: median over the rounds.
        ratio: median over the rounds of this variant's time over the reference's in the same round.
        spread: 10th and 90th percentile of that ratio.
    """

    seconds: float
    ratio: float
    spread: tuple[float, float]


def compare(variants: Mapping[str, Callable[[], object]], rounds: int = 30) -> dict[str, Timing]:
    """Times the variants against the first of them, which is the reference."""
    times = time_rounds(variants, rounds)
    reference = times[next(iter(variants))]
    return {name: summarize(seconds, reference) for name, seconds in times.items()}


def time_rounds(variants: Mapping[str, Callable[[], object]], rounds: int = 30) -> dict[str, list[float]]:
    """Seconds of every variant in every round."""
    for run in variants.values():
        run()  # warm-up
    times: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(rounds):
        names = list(variants)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            started = time.perf_counter()
            variants[name]()
            times[name].append(time.perf_counter() - started)
    return times


def summarize(seconds: list[float], reference: list[float]) -> Timing:
    ratios = sorted(mine / theirs for mine, theirs in zip(seconds, reference, strict=True))
    tenth = len(ratios) // 10
    return Timing(statistics.median(seconds), statistics.median(ratios), (ratios[tenth], ratios[-1 - tenth]))
