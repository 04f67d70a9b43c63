"""What no server costs: tokenize, pack, run and record, in a process that measures when told to.

`python -m benchmarks.adopted.in_process ARTIFACT`; benchmarks/adopted/no_server.py starts it and tells it.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO

import numpy as np

from benchmarks.adopted.no_server import BARE, PADDED, RECORDED, RUN, SINGLE, SMALL, SORTED, Work
from benchmarks.adopted.workloads import SHORT, read_prepared
from runtime.artifact import read_artifact
from runtime.drift.baseline import read_baseline
from runtime.graph.batch import EncodedBatch
from runtime.graph.encoder import Encoder
from runtime.graph.packing import Tokens, pack, pad
from runtime.graph.texts import make_input_encoder
from runtime.statistics.recorder import NormRecorder

BATCH, SMALL_BATCH = 32, 512  # texts; tokens
WARM_UP = 2  # batches


class Runner:
    """Answers texts as the service does, but for HTTP."""

    def __init__(self, artifact: Path) -> None:
        loaded = read_artifact(artifact)
        baseline = read_baseline(loaded)
        self.inputs, self.encoder = make_input_encoder(loaded), Encoder(loaded)
        self.recorder = NormRecorder(loaded.manifest.layers, baseline.summarize, limits=baseline.limits)

    def run(self, texts: Sequence[str], padded: bool) -> None:
        sequences = [item.tokens for item in self.inputs.encode(texts)]
        started = time.perf_counter()
        found = self.run_padded(sequences) if padded else self.encoder.run(sequences)
        self.recorder.observe(found, time.perf_counter() - started)

    def run_padded(self, sequences: Sequence[Tokens]) -> EncodedBatch:
        return self.encoder.run_packed(pad(sequences, self.encoder.pooling))

    def measure(self, workload: str, count: int, variant: str) -> Work:
        """Runs the first texts of a workload, in batches as the variant wants them."""
        prepared = read_prepared(workload).first(count)
        batches = make_batches(prepared.texts, prepared.tokens.tolist(), variant)
        for batch in batches[-WARM_UP:]:
            self.run(batch, variant == PADDED)
        times, busy = [], time.process_time()
        for batch in batches:
            started = time.perf_counter()
            self.run(batch, variant == PADDED)
            times.append(time.perf_counter() - started)
        busy = time.process_time() - busy
        return Work(count, sum(times), float(np.median(times)), busy / sum(times))

    def statistics_cost(self, count: int, rounds: int) -> dict[str, list[float]]:
        """Seconds of every round: embeddings only, with the statistics' outputs, and with those recorded."""
        prepared = read_prepared(SHORT).first(count)
        batches = make_batches(prepared.texts, prepared.tokens.tolist(), SORTED)
        encoded = [[item.tokens for item in self.inputs.encode(batch)] for batch in batches]

        def bare(batch: list[Tokens]) -> None:
            packed = pack(batch, pooling=self.encoder.pooling)
            self.encoder.session.run(["embedding"], self.encoder.feeds(packed))

        def record(batch: list[Tokens]) -> None:
            self.recorder.observe(self.encoder.run(batch))

        variants = {BARE: bare, RUN: self.encoder.run, RECORDED: record}
        return paired_rounds(variants, encoded, rounds)


def make_batches(texts: Sequence[str], tokens: Sequence[int], variant: str) -> list[list[str]]:
    """Single texts as they come; others sorted by length, as many together as the variant allows."""
    if variant == SINGLE:
        return [[text] for text in texts]
    batches: list[list[str]] = []
    room = 0
    for row in np.argsort(tokens, kind="stable").tolist():
        size = tokens[row] if variant == SMALL else 1
        if size > room:
            batches.append([])
            room = max(size, SMALL_BATCH if variant == SMALL else BATCH)
        batches[-1].append(texts[row])
        room -= size
    return batches


def paired_rounds(
    variants: Mapping[str, Callable[[list[Tokens]], object]], batches: list[list[Tokens]], rounds: int
) -> dict[str, list[float]]:
    """Seconds of every variant in every round; the variants take turns batch by batch, the first round warms up."""
    times: dict[str, list[float]] = {name: [0.0] * (rounds + 1) for name in variants}
    names = list(variants)
    for number in range(rounds + 1):
        for place, batch in enumerate(batches):
            turn = (number + place) % len(names)
            for name in names[turn:] + names[:turn]:
                started = time.perf_counter()
                variants[name](batch)
                times[name][number] += time.perf_counter() - started
    return {name: seconds[1:] for name, seconds in times.items()}


def main(artifact: Path, commands: IO[str]) -> None:
    runner = Runner(artifact)
    for line in commands:
        arguments = json.loads(line)
        found = runner.statistics_cost(**arguments) if "rounds" in arguments else asdict(runner.measure(**arguments))
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.stdin)
