"""What a run measures, how long, and what it collects."""

import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.gpu.bounds import block_flops
from benchmarks.gpu.network import Shape
from benchmarks.gpu.timing import Effort

ROWS = {"full": (1, 8, 32, 128, 512), "quick": (1, 32, 128)}
TOKENS = {"full": (16, 128, 512), "quick": (16, 128)}
TRAINED = {"cuda": ((32, 128), (256, 128)), "cpu": ((8, 16),)}  # rows and tokens of a step
POOLING_BYTES = 1 << 28  # pooling is rows * rows * tokens: past this it is all that a run does
CPU_FLOPS = {"full": 6e9, "quick": 3e9}  # of a run on a CPU, so that all is done in about a minute
CPU_TRAINING = 4  # times as much of a step
SECONDS = {"cuda": {"full": 1.5, "quick": 0.6}, "cpu": {"full": 0.5, "quick": 0.3}}  # of a cell

Cell = tuple[int, int]  # rows, tokens of each
Entries = list[dict[str, Any]]  # what was measured
Missing = list[dict[str, str]]  # what was not run, and why


@dataclass(frozen=True, slots=True)
class Setting:
    """What to measure.

    Attributes:
        device: of torch.
        provider: the device on which onnxruntime runs: the CPU, where its wheel has no CUDA.
        threads: of the CPU, for torch and for onnxruntime.
        ends: when to begin nothing more, by `time.monotonic`.
    """

    device: str
    provider: str
    threads: int
    size: str
    ends: float

    def effort(self, device: str) -> Effort:
        return Effort(SECONDS[device][self.size], fewest=5 if device == "cuda" else 3)

    @property
    def over(self) -> bool:
        return time.monotonic() > self.ends


@dataclass(slots=True)
class Report:
    """What was found, written after every step: a run that is cut off loses only what it was at.

    Attributes:
        results: lists of entries by name, and what else there is to say.
        not_run: what was not run, and why.
    """

    path: Path | None
    started: float = field(default_factory=time.monotonic)
    results: dict[str, Any] = field(default_factory=dict)
    not_run: Missing = field(default_factory=list)

    def add(self, name: str, entries: Entries, missing: Missing) -> None:
        self.results.setdefault(name, []).extend(entries)
        self.not_run.extend(missing)
        self.write()

    def skip(self, what: str, why: str) -> None:
        self.not_run.append({"what": what, "why": why})

    def write(self) -> None:
        if self.path is not None:
            content = self.results | {"not_run": self.not_run, "seconds": time.monotonic() - self.started}
            self.path.write_text(json.dumps(content, indent=1))

    def progress(self, step: str) -> None:
        print(f"[{time.monotonic() - self.started:6.1f} s] {step}", file=sys.stderr, flush=True)


def cells(shape: Shape, device: str, size: str) -> tuple[list[Cell], dict[str, list[Cell]]]:
    """The batches to measure on a device, and those left out by why."""
    found, left_out = list[Cell](), dict[str, list[Cell]]()
    for tokens in sorted({min(tokens, shape.max_tokens) for tokens in TOKENS[size]}):
        for rows in ROWS[size]:
            if 4 * rows * rows * tokens > POOLING_BYTES:
                left_out.setdefault("the pooling matrix, rows x all tokens, is over 256 MiB", []).append((rows, tokens))
            elif device == "cpu" and block_flops(shape, rows, tokens) > CPU_FLOPS[size]:
                left_out.setdefault(f"over {CPU_FLOPS[size] / 1e9:g} GFLOP, on a CPU", []).append((rows, tokens))
            else:
                found.append((rows, tokens))
    return found, left_out
