"""Short paired measurements of graphs, on the CPU with one thread: which plan is fastest, what int8 is worth."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import cycle, islice
from statistics import geometric_mean
from typing import Any, TypeVar

import onnxruntime as ort

from export.paired import compare
from runtime.artifact import Artifact
from runtime.encoder import Encoder
from runtime.manifest import Plan, PlanName
from runtime.packing import Tokens, pack
from runtime.plan import CPU, PLANS

ROUNDS = 20
BATCHES = {"batch 1": (1, 32), "batch 32": (32, 2)}  # rows in a batch, batches in a round

Name = TypeVar("Name", bound=str)


def with_plan(artifact: Artifact, sequences: Sequence[Tokens]) -> Artifact:
    """`artifact`, its manifest with the plan that runs `sequences` fastest."""
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
        endless = cycle(sequences)
        groups = [list(islice(endless, rows)) for _ in range(number)]
        timings = compare({name: runner(encoder, groups) for name, encoder in encoders.items()}, ROUNDS)
        for name in encoders:
            speed[name][title] = round(1 / timings[name].ratio, 3)
    return speed


def runner(encoder: Encoder, groups: list[list[Tokens]]) -> Callable[[], None]:
    """Runs the encoder's graph once on each group."""
    feeds = [encoder.feeds(pack(group)) for group in groups]

    def run() -> None:
        for feed in feeds:
            encoder.session.run(None, feed)

    return run
