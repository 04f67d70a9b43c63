"""`python -m benchmarks.networks`: networks of tensors, what their statistics cost and how fast they are served.

Networks have random weights (shapes.py). Everything is a ratio in one run: the graph with statistics to the file that
it was made of, in turn, one thread; served rows a second to those of the file without a server, on the same core.
"""

import os
from pathlib import Path
from statistics import median

import onnxruntime as ort
from pydantic import Field
from pydantic_settings import BaseSettings, CliApp
from rich.console import Console
from rich.progress import track

from benchmarks.document import markdown
from benchmarks.networks.served import Limit, Service
from benchmarks.networks.shapes import INPUT, OUTPUT, SHAPES, adopted, images
from benchmarks.serving.processes import LOAD_CORE, SERVICE_CORE
from export.timing import compare
from runtime.artifact import Artifact
from runtime.manifest import MODEL
from runtime.options import option_config

BATCHES, ASKED = (1, 8), 512  # rows of a run; rows that clients ask for in a round


class Networks(BaseSettings):
    """Measures networks that read tensors, and prints two tables of ratios."""

    model_config = option_config("python -m benchmarks.networks")

    only: list[str] = list(SHAPES)
    """Networks to measure."""
    rounds: int = Field(60, ge=3)
    """Rounds of every graph; of the service a tenth as many."""
    work: Path = Path(".bench/networks")
    """Folder of files, artifacts and logs."""

    def cli_cmd(self) -> None:
        if unknown := [name for name in self.only if name not in SHAPES]:
            raise SystemExit(f"There is no network {unknown[0]!r}, expected {', '.join(SHAPES)}.")
        if not {SERVICE_CORE, LOAD_CORE} <= os.sched_getaffinity(0):
            raise SystemExit("The benchmark needs two cores, one for the networks and one for the load.")
        os.sched_setaffinity(0, {LOAD_CORE})
        costs, served = list[list[str]](), list[list[str]]()
        for name in track(self.only, description="measuring", console=Console(stderr=True), transient=True):
            path, artifact = adopted(name, self.work)
            costs.append(self.cost(name, path, artifact))
            if SHAPES[name].served:
                served.append(self.serve(name, path, artifact))
        print(markdown(["network", "norms", "a row alone", *(f"statistics, rows: {n}" for n in BATCHES)], costs))
        if served:
            print("\n" + markdown(["served to 32 clients", "no server, a row", "rows/s, of no server"], served))

    def cost(self, name: str, path: Path, artifact: Artifact) -> list[str]:
        """Time of the graph with its statistics over that of the file."""
        plain, observed = session(path.read_bytes()), session(artifact.files[MODEL])
        found, alone = list[str](), 0.0
        for rows in BATCHES:
            fed = {INPUT: images(SHAPES[name].size, rows)}
            runs = {"plain": lambda fed=fed: plain.run(None, fed), "observed": lambda fed=fed: observed.run(None, fed)}
            timings = compare(runs, self.rounds)
            alone = alone or timings["plain"].seconds
            low, high = timings["observed"].spread
            found.append(f"{timings['observed'].ratio:.3f} ({low:.3f} to {high:.3f})")
        return [SHAPES[name].title, str(len(artifact.manifest.layers)), f"{1e3 * alone:.2f} ms", *found]

    def serve(self, name: str, path: Path, artifact: Artifact) -> list[str]:
        rows, plain = images(SHAPES[name].size, ASKED), session(path.read_bytes())
        limit = Limit(plain, rows)
        service = Service(artifact, rows, plain.run([OUTPUT], {INPUT: rows})[0], self.work / f"{name}.log")
        ratios, rates = list[float](), list[float]()
        try:
            for _ in range(max(3, self.rounds // 10)):
                rates.append(limit.rate(limit.batch))
                ratios.append(service.rate() / rates[-1])
        finally:
            service.process.stop()
        ms = 1e3 / median(rates)
        return [
            SHAPES[name].title,
            f"{ms:.2f} ms, {limit.batch} together",
            f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
        ]


def session(content: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


if __name__ == "__main__":
    CliApp.run(Networks)
