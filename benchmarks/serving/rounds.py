"""The rounds of the serving benchmark: closed loops, open loops, starts."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from rich.progress import Progress

from benchmarks.serving.closed_loop import MANY, ONE, SCENARIOS, Sample, Scenario, wrk
from benchmarks.serving.limit import NAME as LIMIT
from benchmarks.serving.limit import NoServer
from benchmarks.serving.open_loop import OpenLoop, http_request, poisson_schedule
from benchmarks.serving.processes import Process
from benchmarks.serving.results import MAIN, Phase, Results
from benchmarks.serving.servers import BARE, OURS, WORK, Server

WAKE = 1  # seconds of one client before a measurement: what a server had saved up for quiet times is spent then
RAMP = 1.0  # seconds of an open load before it is measured: its connections are opened, its queue is filled
LOADS = (0.5, 1.0, 2.0, 5.0)


@dataclass(frozen=True, slots=True)
class Running:
    """A server that runs, stopped but for its turns.

    Attributes:
        bodies: files of request bodies, one a line, of each scenario.
    """

    artifact: str
    server: Server
    process: Process
    port: int
    bodies: dict[Scenario, Path]

    @contextmanager
    def turn(self) -> Iterator[None]:
        self.process.resume()
        try:
            yield
        finally:
            self.process.wait_until_quiet()
            self.process.pause()

    def measure(self, scenario: Scenario, seconds: int) -> Sample:
        with self.turn():
            wrk(self.port, self.server.path, self.bodies[ONE], 1, WAKE)
            before = self.process.cpu_seconds()
            found = wrk(self.port, self.server.path, self.bodies[scenario], scenario.clients, seconds)
            busy = (self.process.cpu_seconds() - before) / found["seconds"]
        return Sample(found["requests"] * scenario.rows / found["seconds"], found["p50"], found["p99"], busy)


class Measured(Protocol):
    def measure(self, scenario: Scenario, seconds: int) -> Sample: ...


def closed_loops(
    servers: list[Running],
    limits: dict[str, NoServer],
    results: Results,
    rounds: int,
    seconds: int,
    progress: Progress,
) -> None:
    """Every scenario and variant once a round, the variants of a scenario one right after the other."""
    variants: list[tuple[str, str, Measured]] = [(each.artifact, each.server.name, each) for each in servers]
    variants += [(artifact, LIMIT, limit) for artifact, limit in limits.items()]
    task = progress.add_task("", total=(1 + rounds * len(SCENARIOS)) * len(variants))
    for artifact, name, variant in variants:
        progress.update(task, advance=1, description=f"warm-up: {name}, {artifact}")
        variant.measure(MANY, seconds)
    for number in range(rounds):
        for scenario in SCENARIOS:
            turn = number % len(variants)
            for artifact, name, variant in variants[turn:] + variants[:turn]:
                if scenario.every_class and name not in (OURS, BARE):
                    progress.update(task, advance=1)
                    continue
                description = f"round {number + 1} of {rounds}: {scenario.name}, {name}, {artifact}"
                progress.update(task, advance=1, description=description)
                results.samples.setdefault((artifact, scenario, name), []).append(variant.measure(scenario, seconds))


def write_bodies(server: Server, texts: list[str]) -> dict[Scenario, Path]:
    """A file of request bodies, one a line, for each scenario."""
    files = {}
    for number, scenario in enumerate(SCENARIOS):
        files[scenario] = WORK / f"{server.name.replace(' ', '-')}-{number}.jsonl"
        files[scenario].write_text("\n".join(server.bodies(texts, scenario)) + "\n")
    return files


def open_loops(
    ours: Running, texts: list[str], results: Results, rounds: int, seconds: int, progress: Progress
) -> None:
    """Half of capacity, capacity, twice and five times that, in every round, against what 32 clients got in it."""
    task = progress.add_task("open loop", total=rounds * len(LOADS))
    requests = [http_request(ours.port, ours.server.path, ours.server.request([text])) for text in texts]
    rng = np.random.default_rng(0)
    for _ in range(rounds):
        capacity = ours.measure(MANY, 2).rate
        for load in LOADS:
            progress.update(task, advance=1, description=f"open loop: {load:g} x {capacity:,.0f} requests/s")
            with ours.turn():
                answers = OpenLoop(ours.port, requests, poisson_schedule(load * capacity, seconds, rng)).run()
            results.phases.append(Phase(capacity, load, answers.after(RAMP)))


def starts(servers: Sequence[Running], artifact: Path, texts: list[str], results: Results, count: int) -> None:
    """Further starts of these servers in turns, all others stopped."""
    for number in range(count):
        for each in servers:
            port = each.port + 1 + number % 2
            process = each.server.start(artifact, port)
            try:
                seconds = process.wait_for_answer(port, each.server.path, each.server.request(texts[:1]))
            finally:
                process.stop()
            results.first_answer[MAIN, each.server.name].append(seconds)


def memory(server: Server, artifact: Path, port: int, bodies: Path, seconds: int, workers: int = 1) -> list[int]:
    """Bytes of every process of a server that runs alone (PSS), after 32 clients have asked it for so long.

    Beside others that have the same libraries open, a part of these would be theirs.
    """
    process = server.start(artifact, port, workers)
    try:
        with bodies.open() as lines:
            process.wait_for_answer(port, server.path, next(lines))
        wrk(port, server.path, bodies, MANY.clients, seconds)
        return process.memory_bytes()
    finally:
        process.stop()
