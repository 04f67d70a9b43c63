"""`python -m benchmarks.scaling.score`: how fast `addnorm score` is, and how much memory it takes."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, CliApp
from rich.console import Console
from rich.table import Table

from benchmarks.scaling.ray_score import write_texts
from runtime.cpus import usable_cpus
from runtime.options import option_config
from service.settings import EMBEDDED


class ScoreSpeed(BaseSettings):
    """Scores files of made-up texts with one process, and with one for each CPU, and prints rows a second."""

    model_config = option_config("python -m benchmarks.scaling.score")

    rows: list[int] = Field([60_000, 240_000], min_length=1)
    """Texts of each file."""
    model: Path = EMBEDDED
    """Directory of the artifact."""

    def cli_cmd(self) -> None:
        table = Table("rows", "processes", "seconds", "rows/s", "MB, largest process")
        with tempfile.TemporaryDirectory() as folder:
            for rows in self.rows:
                source = write_texts(Path(folder) / f"{rows}.jsonl", rows)
                for processes in sorted({1, usable_cpus()}):
                    seconds, megabytes = measure(source, self.model, processes)
                    row = (f"{rows:,}", str(processes), f"{seconds:.1f}", f"{rows / seconds:,.0f}", f"{megabytes:.0f}")
                    table.add_row(*row)
        Console().print(table)


def measure(source: Path, model: Path, processes: int) -> tuple[float, float]:
    """Seconds of the whole command, and the most memory that one of its processes took, in MB."""
    options = ["--out", str(source.with_suffix("")), "--model", str(model), "--device", "cpu", "--overwrite"]
    command = [sys.executable, "-m", "addnorm", "score", str(source), *options, "--processes", str(processes)]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ends with {process.returncode}")
    return seconds, usage.ru_maxrss / 1024  # of the process and those that it waited for; kB on Linux


if __name__ == "__main__":
    CliApp.run(ScoreSpeed)
