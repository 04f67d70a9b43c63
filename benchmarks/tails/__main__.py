"""p99 over p50 at half of capacity, beside a control in the same run; and what ran beside the slowest requests.

    python -m benchmarks.tails --data DATA [--quick]                      needs wrk and two cores

First the service is traced (traced.py) with state, scrapes, history and loads of models beside it: what its batches
take is fitted to the trace, and the slowest requests are laid beside it. Then service and control (control.py) are
measured in turns, without the trace, at half of what 32 clients get of the service in the same round: alone, and while
GET /metrics and GET /norm-stats are asked every second. Server and load have a core each.
"""

import json
import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import Field
from pydantic_settings import BaseSettings, CliApp
from rich.console import Console

from benchmarks.serving.artifacts import shuffled_texts
from benchmarks.serving.closed_loop import MANY, check_wrk
from benchmarks.serving.open_loop import CONNECTIONS, Answers, OpenLoop, allow_descriptors, http_request
from benchmarks.serving.open_loop import poisson_schedule as poisson
from benchmarks.serving.processes import LOAD_CORE, SERVICE_CORE, post, preferred
from benchmarks.serving.rounds import RAMP, Running, write_bodies
from benchmarks.serving.servers import ADDNORM, WORK, Server
from benchmarks.tails.beside import HISTORY, SCRAPES, Ask, asked, loads
from benchmarks.tails.control import Times
from benchmarks.tails.results import (
    CONTROL,
    OURS,
    WORST,
    Activity,
    Phase,
    activities,
    activities_table,
    batch_times,
    measured,
    ratios,
    ratios_table,
    tails_table,
    too_long,
)
from benchmarks.tails.traced import read_trace
from runtime.artifact import read_artifact
from runtime.graph.texts import make_input_encoder
from runtime.options import option_config
from service.settings import EMBEDDED, TWIN

PORT = 18700  # the first
FOLDER = WORK / "tails"
LOAD = 0.5  # of capacity
BESIDE: dict[str, tuple[Ask, ...]] = {"nothing": (), "/metrics and /norm-stats": SCRAPES}
TRACED = (sys.executable, "-m", "benchmarks.tails.traced", str(FOLDER / "trace.jsonl"))


class Tails(BaseSettings):
    """Measures p99/p50 of this service and of a control at half of capacity, and traces the slowest requests."""

    model_config = option_config("python -m benchmarks.tails")

    data: Path = Path("data")
    """Folder of downloaded data sets: the texts are clinc150's."""
    model: Path = EMBEDDED
    """Directory of the artifact to serve."""
    quick: bool = False
    """One short round, for a first look."""
    rounds: int = Field(0, ge=0)
    """Rounds; 0 for 5, or 1 where quick."""
    seconds: int = Field(0, ge=0)
    """Seconds of each open load; 0 for 8, or 4 where quick."""
    priority: bool = False
    """Goes before what else the machine has to do meanwhile; needs root."""
    out: Path | None = None
    """File for every number, JSON."""

    def cli_cmd(self) -> None:
        check_wrk()
        if not {SERVICE_CORE, LOAD_CORE} <= os.sched_getaffinity(0):
            raise SystemExit("The benchmark needs two cores, one for the server and one for the load.")
        with preferred() if self.priority else nullcontext():
            run(self, Console())


class Texts(NamedTuple):
    """What is asked.

    Attributes:
        lengths: file with the tokens of each request body, for the control.
    """

    texts: list[str]
    lengths: Path


def run(options: Tails, console: Console) -> None:
    rounds, seconds = options.rounds or (1 if options.quick else 5), options.seconds or (4 if options.quick else 8)
    texts = prepare(options)
    os.sched_setaffinity(0, {LOAD_CORE})  # and so wrk, the open loop and who asks beside
    allow_descriptors(2 * CONNECTIONS)
    seen, facts, times = traced(options.model, texts, seconds)
    phases: list[Phase] = []
    with ExitStack() as stack:
        ours = start(Server(OURS, (*ADDNORM, "--state", str(FOLDER / "state"))), options.model, PORT, texts, stack)
        with ours.turn():
            answer = post(PORT, ours.server.path, ours.server.request(texts.texts[:1]))
        times = balanced(ours, times, facts, len(answer), texts)
        server = control_server(times, facts, len(answer), texts)
        control = start(server, options.model, PORT + 1, texts, stack)
        for number in range(rounds):
            console.print(f"round {number + 1} of {rounds}", highlight=False)
            phases += one_round(number, (ours, control), texts, seconds)
    report(phases, seen, times, options, console)


def prepare(options: Tails) -> Texts:
    """The texts, their tokens, and a repository of the model and another one that is loaded beside it."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    texts, encoder = shuffled_texts(options.data), make_input_encoder(read_artifact(options.model))
    server = Server(CONTROL, ())
    tokens = {server.request([text]): len(encoder.encode([text])[0].tokens) for text in texts}
    (FOLDER / "lengths.json").write_text(json.dumps(tokens))
    for model in (options.model, other_model(options.model)):
        manifest = read_artifact(model).manifest
        shutil.copytree(model, FOLDER / "models" / manifest.name / manifest.version)
    return Texts(texts, FOLDER / "lengths.json")


def other_model(model: Path) -> Path:
    """One of another name."""
    names = {each: read_artifact(each).manifest.name for each in (model, TWIN, EMBEDDED)}
    return next(each for each in (TWIN, EMBEDDED) if names[each] != names[model])


def start(server: Server, model: Path, port: int, texts: Texts, stack: ExitStack) -> Running:
    """A server that runs, stopped but for its turns."""
    process = server.start(model, port)
    stack.callback(process.stop)
    process.wait_for_answer(port, server.path, server.request(texts.texts[:1]))
    process.prefer()
    process.pause()
    return Running(str(model), server, process, port, write_bodies(server, texts.texts))


def open_loop(running: Running, rate: float, texts: Texts, seconds: int, seed: int) -> tuple[float, Answers]:
    """When the load began (on the monotonic clock), and its answers but for the first second's."""
    requests = [http_request(running.port, running.server.path, running.server.request([text])) for text in texts.texts]
    loop = OpenLoop(running.port, requests, poisson(rate, RAMP + seconds, np.random.default_rng(seed)))
    answers = loop.run().after(RAMP)
    return loop.started, answers


def traced(model: Path, texts: Texts, seconds: int) -> tuple[tuple[list[Activity], int], dict[str, Any], Times]:
    """What ran beside the slowest requests, facts of the service, and what its batches take."""
    name, other = (read_artifact(each).manifest.name for each in (model, other_model(model)))
    served = ("--models", str(FOLDER / "models"), "--model-control", "explicit", "--default-model", name)
    command = (*TRACED, *served, "--state", str(FOLDER / "traced-state"), "--port", "{port}")
    with ExitStack() as stack:
        running = start(Server("traced", command), model, PORT + 2, texts, stack)
        capacity = running.measure(MANY, 2).rate
        with running.turn(), asked(running.port, (*SCRAPES, HISTORY, loads(other))):
            began, answers = open_loop(running, LOAD * capacity, texts, 2 * seconds, seed=0)
    facts, notes = read_trace(FOLDER / "trace.jsonl")
    if not facts["in_loop"]:
        raise SystemExit(f"{model} is too slow to run in the event loop, and the control runs there: take another one.")
    return activities(notes, answers, began), facts, batch_times(notes)


def control_server(times: Times, facts: dict[str, Any], answer_bytes: int, texts: Texts) -> Server:
    options = asdict(times) | facts | {"answer_bytes": answer_bytes, "lengths": texts.lengths}
    del options["in_loop"]
    named = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    return Server(CONTROL, (sys.executable, "-m", "benchmarks.tails.control", "--port", "{port}", *named))


def balanced(ours: Running, times: Times, facts: dict[str, Any], answer_bytes: int, texts: Texts) -> Times:
    """The times with which the control has the capacity of the service: its requests take what is missing."""
    with ExitStack() as stack:
        server = control_server(times, facts, answer_bytes, texts)
        control = start(server, Path(ours.artifact), PORT + 3, texts, stack)
        per_request = [[1 / each.measure(MANY, 2).rate for each in (ours, control)] for _ in range(2)]
    mine, its = np.median(per_request, axis=0)
    return replace(times, read=max(0.0, float(mine - its)))


def one_round(number: int, servers: Sequence[Running], texts: Texts, seconds: int) -> list[Phase]:
    """Each server once with each thing asked beside, at the same rate; who is first changes from round to round."""
    rate, phases = LOAD * servers[0].measure(MANY, 2).rate, []
    for beside, asks in BESIDE.items():
        for running in servers if number % 2 == 0 else servers[::-1]:
            with running.turn(), asked(running.port, asks):
                before = running.process.cpu_seconds()
                _, answers = open_loop(running, rate, texts, seconds, seed=1 + number)
                busy = (running.process.cpu_seconds() - before) / (RAMP + seconds)
            phases.append(measured(running.server.name, beside, number, rate, answers, busy))
    return phases


def report(
    phases: list[Phase], seen: tuple[list[Activity], int], times: Times, options: Tails, console: Console
) -> None:
    found, (noted, alone) = ratios(phases), seen
    parts = [tails_table(phases), ratios_table(found), activities_table(noted)]
    long = ", ".join(too_long(noted)) or "none"
    parts.append(f"Beside {alone} of the slowest {WORST} requests ran nothing of these. Above .5 ms: {long}.")
    parts.append("The control's times: " + ", ".join(f"{k} {1e6 * v:.1f} us" for k, v in asdict(times).items()) + ".")
    console.print("\n\n".join(parts), markup=False, highlight=False, soft_wrap=True)
    if options.out is not None:
        numbers = {"phases": phases, "ratios": found, "activities": noted}
        raw = {name: [asdict(each) for each in some] for name, some in numbers.items()} | {
            "alone": alone,
            "times": asdict(times),
        }
        options.out.write_text(json.dumps(raw, indent=1) + "\n")


if __name__ == "__main__":
    CliApp.run(Tails)
