"""Starts, memory and rounds: every variant once a round, in turn, all others stopped."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.adopted.load import Checked, ClosedLoop, check
from benchmarks.adopted.no_server import PADDED, SINGLE, SMALL, SORTED, NoServer
from benchmarks.adopted.peers import Server
from benchmarks.adopted.results import Results, Sample, Start
from benchmarks.adopted.workloads import (
    LONG,
    MANY,
    ONE,
    SCENARIOS,
    SHORT,
    Prepared,
    Scenario,
    is_prepared,
    read_prepared,
)
from benchmarks.serving.open_loop import http_request
from benchmarks.serving.processes import Process, rollup

FIRST_PORT = 18300
START_TIMEOUT = 300.0  # seconds; a peer imports torch, and the machine may be busy
WARM_UP = 2  # requests of each client

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Running:
    """A server that runs, stopped but for its turns."""

    server: Server
    process: Process
    port: int

    @contextmanager
    def turn(self) -> Iterator[None]:
        self.process.resume()
        try:
            yield
        finally:
            self.process.wait_until_quiet()
            self.process.pause()

    def ask(self, prepared: Prepared, rows: int, clients: int) -> Checked:
        """All texts once, every answer compared with the expected one."""
        starts = range(0, len(prepared.texts), rows)
        bodies = [self.server.request(prepared.texts[start : start + rows]) for start in starts]
        requests = [http_request(self.port, self.server.path, body) for body in bodies]
        try:
            answers = ClosedLoop(self.port, requests, clients).run()
        except OSError as error:
            printed = self.process.log.read_text(errors="replace")[-2000:]
            raise SystemExit(
                f"{self.server.name} cannot be reached ({error}); it printed, in {self.process.log}:\n{printed}"
            ) from error
        expected = [prepared.embeddings[start : start + rows] for start in starts]
        return check(answers, expected, self.server.embeddings)

    def measure(self, scenario: Scenario, prepared: Prepared) -> Sample:
        with self.turn():
            few = prepared.first(WARM_UP * scenario.rows * min(scenario.clients, 4))
            self.ask(few, scenario.rows, scenario.clients)
            before = self.process.cpu_seconds()
            found = self.ask(prepared, scenario.rows, scenario.clients)
            cpu = self.process.cpu_seconds() - before
        p50 = float(np.median(found.latencies)) if found.right else float("nan")
        rate = found.right * scenario.rows / found.seconds
        return Sample(rate, p50, cpu / found.seconds, found.wrong, found.failed)


def pss_bytes(pids: Sequence[int]) -> int:
    """Memory of a tree of processes, with their part of what they share with others."""
    return sum(rollup(pid, "Pss:") for pid in pids)


def rss_bytes(pids: Sequence[int]) -> int:
    return sum(rollup(pid, "Rss:") for pid in pids)


def launch(server: Server, artifact: Path, port: int, text: str) -> tuple[Running, float]:
    """A server that answers, and the seconds from its start to its first answer."""
    process = server.start(artifact, port)
    try:
        seconds = process.wait_for_answer(port, server.path, server.request([text]), START_TIMEOUT)
    except BaseException:
        process.stop()
        raise
    return Running(server, process, port), seconds


def measure_starts(
    servers: Sequence[Server], artifact: Path, results: Results, times: int, texts: int, tell: Tell
) -> None:
    """Each server alone: its first answer, then its memory after a load of 32 clients."""
    prepared = read_prepared(SHORT).first(texts)
    for number in range(times):
        for place, server in enumerate(servers):
            tell(f"start {number + 1} of {times}: {server.name}")
            running, seconds = launch(server, artifact, FIRST_PORT + 10 * place + 1 + number % 2, prepared.texts[0])
            try:
                running.ask(prepared, MANY.rows, MANY.clients)
                pids = running.process.pids()
                found = Start(seconds, pss_bytes(pids), rss_bytes(pids), len(pids))
            finally:
                running.process.stop()
            results.starts.setdefault(server.name, []).append(found)


def measure_rounds(
    servers: Sequence[Running], limit: NoServer, results: Results, rounds: int, quick: bool, tell: Tell
) -> None:
    for number in range(rounds):
        for scenario in SCENARIOS:
            if not is_prepared(scenario.workload):
                continue
            prepared = read_prepared(scenario.workload).first(scenario.texts[quick])
            variants = make_variants(servers, limit, scenario, prepared)
            turn = number % len(variants)
            for name, measure in variants[turn:] + variants[:turn]:
                tell(f"round {number + 1} of {rounds}: {scenario.name}, {name}")
                results.samples.setdefault((scenario.name, name), []).append(measure())


def make_variants(
    servers: Sequence[Running], limit: NoServer, scenario: Scenario, prepared: Prepared
) -> list[tuple[str, Callable[[], Sample]]]:
    """What is measured in a scenario: without a server in one or several ways, and every server."""
    names = (SINGLE,) if scenario is ONE else (SORTED, SMALL, PADDED) if scenario in (MANY, *LONG) else (SORTED,)

    def without(name: str) -> Sample:
        work = limit.measure(scenario.workload, len(prepared.texts), name)
        return Sample(work.texts / work.seconds, work.p50, work.busy)

    found: list[tuple[str, Callable[[], Sample]]] = [(name, partial(without, name)) for name in names]
    return found + [(each.server.name, partial(each.measure, scenario, prepared)) for each in servers]


def pin(core: int) -> None:
    """Keeps this process, and so the load, on a core of its own."""
    if not {0, 1} <= os.sched_getaffinity(0):
        raise SystemExit("The benchmark needs two cores, one for the servers and one for the load.")
    os.sched_setaffinity(0, {core})
