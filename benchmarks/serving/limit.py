"""The limit that no server can pass: tokenize and run, in a process on the service's core, without HTTP.

A child process runs `python -m benchmarks.serving.limit ARTIFACT TEXTS` and measures when told to; `NoServer` tells it.
"""

import json
import os
import random
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import IO

import numpy as np

from benchmarks.serving.closed_loop import Sample, Scenario
from benchmarks.serving.processes import SERVICE_CORE
from benchmarks.serving.servers import ROOT
from runtime.artifact import read_artifact
from runtime.graph.encoder import Encoder
from runtime.graph.packing import pack
from runtime.graph.texts import make_input_encoder

NAME = "no HTTP"


class NoServer:
    """The child process.

    Args:
        texts: file with one JSON text a line.
    """

    def __init__(self, artifact: Path, texts: Path) -> None:
        self.popen = subprocess.Popen(
            [
                "taskset",
                "-c",
                str(SERVICE_CORE),
                sys.executable,
                "-m",
                "benchmarks.serving.limit",
                str(artifact),
                str(texts),
            ],
            cwd=ROOT,
            env=os.environ | {"TOKENIZERS_PARALLELISM": "false"},  # as every server has it: on one core it is faster
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def measure(self, scenario: Scenario, seconds: int) -> Sample:
        """Runs batches of as many texts as is the scenario's limit, sorted by length where there are several."""
        assert self.popen.stdin and self.popen.stdout
        self.popen.stdin.write(f"{scenario.limit} {seconds}\n")
        self.popen.stdin.flush()
        line = self.popen.stdout.readline()
        if not line:
            raise SystemExit("The process without a server ended; what it printed is above.")
        return Sample(**json.loads(line))

    def stop(self) -> None:
        assert self.popen.stdin
        self.popen.stdin.close()
        self.popen.wait()


class Runner:
    """Tokenizes texts and runs the served graph on them, packed. Of its outputs it takes the logits only."""

    def __init__(self, artifact: Path, texts: list[str]) -> None:
        loaded = read_artifact(artifact)
        self.inputs, self.encoder = make_input_encoder(loaded), Encoder(loaded)
        lengths = [len(item.tokens) for item in self.inputs.encode(texts)]
        self.texts = texts
        self.sorted = [texts[row] for row in np.argsort(lengths, kind="stable")]

    def run(self, texts: list[str]) -> None:
        batch = pack([item.tokens for item in self.inputs.encode(texts)])
        self.encoder.session.run(["logits"], self.encoder.feeds(batch))

    def batches(self, rows: int) -> list[list[str]]:
        """All texts in batches: single ones as they come, others of like lengths, in random order."""
        texts = self.sorted if rows > 1 else self.texts
        batches = [texts[start : start + rows] for start in range(0, len(texts), rows)]
        random.Random(0).shuffle(batches)
        return batches

    def measure(self, rows: int, seconds: float) -> Sample:
        batches, times, done, turn = self.batches(rows), [], 0, 0
        started, busy = time.perf_counter(), time.process_time()
        before = started
        while before - started < seconds:
            batch = batches[turn % len(batches)]
            self.run(batch)
            now = time.perf_counter()
            times.append(now - before)
            before, done, turn = now, done + len(batch), turn + 1
        elapsed = before - started
        p50, p99 = np.percentile(times, [50, 99]).tolist()
        return Sample(done / elapsed, p50, p99, (time.process_time() - busy) / elapsed)


def main(artifact: Path, texts: Path, commands: IO[str]) -> None:
    runner = Runner(artifact, [json.loads(line) for line in texts.read_text().splitlines()])
    runner.measure(1, 0.2)  # warm-up
    for line in commands:
        rows, seconds = line.split()
        print(json.dumps(asdict(runner.measure(int(rows), float(seconds)))), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.stdin)
