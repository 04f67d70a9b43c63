"""How fast this service answers, beside other Python servers and beside no server at all, in one run.

    python -m benchmarks.serving --data DATA [--quick]        needs wrk, two cores, and `make bench` once for the peers

Every server has one worker on the first core, the load generator has the second; the same artifact, tokenizer and texts
for all. All servers run all the time, but only the measured one is not stopped; every variant is measured once in every
round, in turn. docs/benchmarks.md says what is measured and how.
"""

import json
import os
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, CliApp
from rich.console import Console
from rich.progress import Progress

from benchmarks.serving.artifacts import serving_artifact, shuffled_texts
from benchmarks.serving.closed_loop import MANY, check_wrk
from benchmarks.serving.limit import NoServer
from benchmarks.serving.open_loop import CONNECTIONS, allow_descriptors
from benchmarks.serving.processes import LOAD_CORE, SERVICE_CORE, post, preferred
from benchmarks.serving.report import write_report
from benchmarks.serving.results import EMBEDDED, INT8, MAIN, WORKERS, Results
from benchmarks.serving.rounds import Running, closed_loops, memory, open_loops, starts, write_bodies
from benchmarks.serving.servers import BARE, OURS, PLAIN, SERVERS, WORK, Server
from runtime.errors import ExportError
from runtime.options import option_config
from service.settings import EMBEDDED as EMBEDDED_ARTIFACT

FIRST_PORT = 18200
CHECKED = 64  # texts whose labels all servers must agree on


class Serving(BaseSettings):
    """Measures this service beside other servers, and prints the tables of docs/benchmarks.md."""

    model_config = option_config("python -m benchmarks.serving")

    data: Path = Path("data")
    """Folder of downloaded data sets."""
    quick: bool = False
    """Two minutes: one short round, for a first look."""
    servers: list[str] = [server.name for server in SERVERS]
    """Servers to measure."""
    int8: bool = True
    """Measures the int8 export of the same network too."""
    rounds: int = Field(0, ge=0)
    """Rounds of closed loops; 0 for 5, or 1 where quick."""
    priority: bool = False
    """Goes before what else the machine has to do meanwhile; needs root, and leaves that little of the first core."""
    write: bool = False
    """Fills the tables of docs/benchmarks.md, and draws its chart."""
    out: Path = WORK
    """Folder for serving.md, serving.png and serving.json."""

    def cli_cmd(self) -> None:
        check_machine(self.servers)
        with preferred() if self.priority else nullcontext():
            run(self, Console())


def check_machine(names: Sequence[str]) -> None:
    """Ends with one sentence where something is missing."""
    check_wrk()
    if not {SERVICE_CORE, LOAD_CORE} <= os.sched_getaffinity(0):
        raise SystemExit("The benchmark needs two cores, one for the service and one for the load.")
    if unknown := set(names) - {server.name for server in SERVERS}:
        known = ", ".join(server.name for server in SERVERS)
        raise SystemExit(f"There is no server {min(unknown)!r}, expected some of {known}.")


def make_artifacts(options: Serving, console: Console) -> dict[str, Path]:
    found = {MAIN: serving_artifact(options.data), EMBEDDED: EMBEDDED_ARTIFACT}
    if options.int8:
        try:
            found[INT8] = serving_artifact(options.data, "int8")
        except ExportError as error:
            console.print(f"int8 is not measured: {error}", highlight=False)
    return found


def run(options: Serving, console: Console) -> None:
    artifacts = make_artifacts(options, console)
    texts = shuffled_texts(options.data)
    rounds = options.rounds or (1 if options.quick else 5)
    os.sched_setaffinity(0, {LOAD_CORE})  # and so wrk, and the open loop
    allow_descriptors(2 * CONNECTIONS)  # for the servers, which inherit it
    results = Results()
    with ExitStack() as stack, Progress(console=console, transient=True) as progress:
        servers = start_all(options.servers, artifacts, texts, results, stack, console)
        limits = start_limits(artifacts, texts, stack)
        closed_loops(servers, limits, results, rounds, 1 if options.quick else 2, progress)
        if ours := find(servers, MAIN, OURS):
            open_loops(ours, texts, results, 1 if options.quick else 5, 5 if options.quick else 7, progress)
            others = [each for each in servers if each.artifact == MAIN and each.server.name == PLAIN]
            starts([ours, *others], artifacts[MAIN], texts, results, 2 if options.quick else 9)
    measure_memory(servers, artifacts, results, 1 if options.quick else 5, console)
    how = f"{len(texts):,} texts, {rounds} rounds" + (", with priority" if options.priority else "")
    write_report(results, how, options.out, options.write, console)


def measure_memory(
    servers: list[Running], artifacts: dict[str, Path], results: Results, seconds: int, console: Console
) -> None:
    """Of each server alone, once all have been stopped; of ours with several workers, too."""
    console.print("memory of each server alone", highlight=False)
    for each in servers:
        asked = each.server, artifacts[each.artifact], each.port, each.bodies[MANY], seconds
        results.memory[each.artifact, each.server.name] = memory(*asked)
    if ours := find(servers, MAIN, OURS):
        asked = ours.server, artifacts[MAIN], ours.port, ours.bodies[MANY], 2 * seconds
        results.several = memory(*asked, workers=WORKERS)


def find(servers: list[Running], artifact: str, name: str) -> Running | None:
    return next((running for running in servers if (running.artifact, running.server.name) == (artifact, name)), None)


def start_all(
    names: Sequence[str],
    artifacts: dict[str, Path],
    texts: list[str],
    results: Results,
    stack: ExitStack,
    console: Console,
) -> list[Running]:
    """Starts all servers for the main artifact, those of this environment for the embedded one, ours for int8."""
    chosen = {MAIN: names, EMBEDDED: [name for name in names if name in (OURS, BARE, PLAIN)], INT8: [OURS]}
    found: list[Running] = []
    for artifact, path in artifacts.items():
        answers: dict[str, list[str]] = {}
        for server in (server for server in SERVERS if server.name in chosen[artifact]):
            port = FIRST_PORT + 10 * len(found)
            process = server.start(path, port)
            stack.callback(process.stop)
            seconds = process.wait_for_answer(port, server.path, server.request(texts[:1]))
            console.print(f"{artifact}, {server.name}: first answer after {seconds:.2f} s", highlight=False)
            process.prefer()
            results.first_answer[artifact, server.name] = [seconds]
            answers[server.name] = labels(server, port, texts[:CHECKED])
            found.append(Running(artifact, server, process, port, write_bodies(server, texts)))
            process.pause()
        check_labels(answers)
    return found


def labels(server: Server, port: int, texts: list[str]) -> list[str]:
    """The labels of the texts, asked one by one; those of all at once must be the same."""
    alone = [server.labels(json.loads(post(port, server.path, server.request([text]))))[0] for text in texts]
    together = server.labels(json.loads(post(port, server.path, server.request(texts))))
    if alone != together:
        raise SystemExit(f"{server.name} answers a text alone with another label than among others.")
    return alone


def check_labels(answers: dict[str, list[str]]) -> None:
    first, *others = answers
    for other in others:
        if answers[other] != answers[first]:
            raise SystemExit(f"{first} and {other} disagree on a label: they do not run the same model.")


def start_limits(artifacts: dict[str, Path], texts: list[str], stack: ExitStack) -> dict[str, NoServer]:
    path = WORK / "texts.jsonl"
    path.write_text("\n".join(map(json.dumps, texts)) + "\n")
    found = {name: NoServer(artifact, path) for name, artifact in artifacts.items() if name != INT8}
    for limit in found.values():
        stack.callback(limit.stop)
    return found


if __name__ == "__main__":
    CliApp.run(Serving)
