"""How long GET /norm-stats takes after a day of traffic, for every window; what the day takes in memory and on disk.

python -m benchmarks.cost.report_time        the embedded model, made-up traffic; a minute
"""

import statistics
import tempfile
import time
import tracemalloc
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.cost.inference import random_sequences
from runtime.artifact import read_artifact
from runtime.graph.deep import DeepGraph
from runtime.graph.encoder import Encoder
from runtime.graph.packing import pack
from runtime.statistics.deep import measure
from service.norm_stats.collector import Collector
from service.norm_stats.interface import AllLayers, WindowQuery
from service.settings import Settings

DAY, STEP, TIMES = 86_400, 5, 30
WINDOWS = ("all", "5m", "1h", "24h")


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        settings = Settings(device="cpu", state=Path(directory))
        artifact = read_artifact(settings.model)
        tracemalloc.start()
        collector = Collector(artifact, settings)
        fill(collector, Encoder(artifact), DeepGraph(artifact, Encoder(artifact)))
        memory = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        disk = kept_bytes(collector, Path(directory))
        console, table = Console(), Table("window", "median, ms", "slowest of 30, ms", "requests")
        for window in WINDOWS:
            table.add_row(*row(collector, window))
        console.print(table)
        console.print(f"a day of traffic: {memory / 1e6:.0f} MB in memory, {disk / 1e6:.1f} MB on disk")
        collector.close()


def fill(collector: Collector, encoder: Encoder, deep: DeepGraph) -> None:
    """A batch every STEP seconds of a day that ends now, and a deep look at it every minute."""
    sequences = random_sequences(read_artifact(Settings().model), 512)
    rng = np.random.default_rng(0)
    recorder, end = collector.recorder, collector.recorder.clock()
    now = [end - DAY]
    recorder.clock = lambda: now[0]
    for tick in track(range(DAY // STEP), "a day of traffic", transient=True):
        chosen = [sequences[i] for i in rng.integers(len(sequences), size=4)]
        collector.observe(encoder.run(chosen), 0.0)
        if tick % 12 == 0:
            collector.observe_deep(measure(deep.run, pack(chosen)), 0.0)
        now[0] += STEP


def kept_bytes(collector: Collector, directory: Path) -> int:
    """What its statistics take, once they are kept in this directory."""
    collector.keep()
    return sum(path.stat().st_size for path in directory.iterdir())


def row(collector: Collector, window: str) -> tuple[str, ...]:
    times = []
    for _ in range(TIMES):
        started = time.perf_counter()
        collector.report(AllLayers(WindowQuery(window)))
        times.append(1e3 * (time.perf_counter() - started))
    requests = collector.recorder.window(collector._span(WindowQuery(window))).state.requests
    return window, f"{statistics.median(times):.1f}", f"{max(times):.1f}", f"{requests:,}"


if __name__ == "__main__":
    main()
