"""How fast an adopted encoder is served, beside other servers of the same model and beside no server, in one run.

    python -m benchmarks.adopted --model all-MiniLM-L6-v2 --texts questions.txt [--quick] [--peer NAME ...]

Every server has one worker and one thread on the first core, the load has the second. All servers run all the time,
but only the measured one is not stopped. Every variant answers the same texts once in every round, in turn; an answer
counts if its vectors are those that the artifact gives without a server.
"""

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, CliApp
from rich.console import Console
from rich.progress import Progress

from benchmarks.adopted.no_server import NoServer
from benchmarks.adopted.peers import BF16, OURS, Server, chosen
from benchmarks.adopted.report import show, write
from benchmarks.adopted.results import Results
from benchmarks.adopted.rounds import FIRST_PORT, Tell, launch, measure_rounds, measure_starts, pin
from benchmarks.adopted.workloads import IN_BF16, MANY, ROOT, SHORT, read_prepared
from benchmarks.serving.processes import LOAD_CORE
from runtime.options import option_config

WIDTH = 160  # of tables in a file


class Adopted(BaseSettings):
    """Measures an adopted sentence-transformers model beside other servers of it, and prints ratios to no server."""

    model_config = option_config("python -m benchmarks.adopted")

    model: Path
    """Directory of the model: config.json, model.safetensors, tokenizer.json, modules.json."""
    texts: Path
    """File with a text in a line: what is asked, and what the model is adopted with."""
    quick: bool = False
    """One round of few texts, for a first look."""
    peer: list[str] = []
    """Servers to measure beside this one; all where none is named."""
    rounds: int = Field(0, ge=0)
    """Rounds; 0 for 5, or 1 where quick."""
    artifact: Path | None = None
    """An artifact of the model, adopted before; else it is adopted now, which takes minutes."""
    out: Path | None = None
    """JSON file for every number."""

    def cli_cmd(self) -> None:
        run(self, Console(width=None if sys.stdout.isatty() else WIDTH))


def run(options: Adopted, console: Console) -> None:
    servers = chosen([OURS, *options.peer] if options.peer else [])
    artifact = prepare(options)
    if not artifact.with_name(IN_BF16).exists():  # this processor has none, or an artifact was named
        servers = [server for server in servers if server.name != BF16]
    pin(LOAD_CORE)
    rounds = options.rounds or (1 if options.quick else 5)
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("", total=None)

        def tell(text: str) -> None:
            progress.update(task, description=text)
            if not console.is_terminal:
                console.print(text, highlight=False)

        results = measure(servers, artifact, rounds, options.quick, tell)
    how = f"texts of {options.texts.name}, rounds: {rounds}{', of few texts' if options.quick else ''}"
    show(results, how, console)
    if options.out:
        write(results, how, options.out)
        console.print(f"Written to {options.out}", highlight=False)


def measure(servers: list[Server], artifact: Path, rounds: int, quick: bool, tell: Tell) -> Results:
    results, texts = Results(), MANY.texts[quick]
    measure_starts(servers, artifact, results, 1 if quick else 3, texts, tell)
    first = read_prepared(SHORT).texts[0]
    with ExitStack() as stack:
        running = []
        for place, server in enumerate(servers):
            tell(f"starting {server.name}")
            one, _ = launch(server, artifact, FIRST_PORT + 10 * place, first)
            stack.callback(one.process.stop)
            one.process.pause()
            running.append(one)
        limit = NoServer(artifact)
        stack.callback(limit.stop)
        measure_rounds(running, limit, results, rounds, quick, tell)
        tell("statistics")
        results.statistics = limit.statistics_cost(texts, rounds if quick else 3 * rounds)
    return results


def prepare(options: Adopted) -> Path:
    """The artifact's directory, made with all else that is measured in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.adopted.prepare", str(options.model.resolve())]
    command += [str(path.resolve()) for path in (options.texts, options.artifact) if path]
    found = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if found.returncode:
        raise SystemExit("Nothing was measured; why is above.")
    return Path(found.stdout.splitlines()[-1])


if __name__ == "__main__":
    CliApp.run(Adopted)
