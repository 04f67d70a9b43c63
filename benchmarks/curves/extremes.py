"""What grows outside the graph at sizes that few have: many norms, many classes, many texts in a batch.

CPU time of one process, on made-up numbers: what these parts take does not depend on what a network says.
"""

import json
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from statistics import median

import numpy as np

from benchmarks.curves.curve import Curve, Points, Tell, growth_rows, number
from runtime.drift.detector import Reference, window_scores
from runtime.drift.mix import MIX_SIZES, WINDOW_SIZES, calibrate_mix
from runtime.graph.packing import pack

WINDOWS, TOKENS = 288, 4  # buckets of five minutes in a day; tokens of a text
REQUESTS = 4  # of the live traffic that a baseline is taken of, for each class
TIMES = 7  # of which the median is taken
Work = Callable[[], object]
Part = tuple[Callable[[int], Work], Sequence[int]]  # makes the work of a size; sizes
NORMS, CLASSES, TEXTS = (25, 100, 800), (100, 1_000, 10_000), (32, 256, 4_096)


def reference(norms: int) -> Reference:
    """A reference of one class, without the unlikeness."""
    pairs = norms + 2
    columns = 2 * pairs
    rows, ones = np.zeros((1, columns)), np.ones(columns)
    thresholds = np.ones((pairs + 1, len(WINDOW_SIZES))), np.ones(len(MIX_SIZES))
    precision = np.tile(np.eye(2), (pairs, 1, 1))
    return Reference(np.stack([-ones, ones]), rows, ones, rows, precision, rows, np.ones(1), *thresholds, ones)


def windows(norms: int) -> Work:
    judged = reference(norms)
    z = np.random.default_rng(0).normal(size=(WINDOWS, len(judged.variance)))
    return lambda: window_scores(z, judged.precision, judged.directions)


def reading(norms: int) -> Work:
    kept = json.dumps(reference(norms).to_dict())
    return lambda: Reference.from_dict(json.loads(kept))


def mix(classes: int) -> Work:
    rng = np.random.default_rng(0)
    counts = rng.multinomial(REQUESTS * classes, rng.dirichlet(np.ones(classes))).astype(np.float64)
    return lambda: calibrate_mix(counts)


def packing(texts: int) -> Work:
    sequences = [np.ones(TOKENS, dtype=np.int64)] * texts
    return lambda: pack(sequences)


PARTS: dict[str, Part] = {
    "a day's windows, of norms": (windows, NORMS),
    "reading what drift is judged by, of norms": (reading, NORMS),
    "thresholds of the mix, of classes": (mix, CLASSES),
    f"packing texts of {TOKENS} tokens": (packing, TEXTS),
}


def cost(work: Work, times: int) -> tuple[float, float]:
    """The median CPU time in milliseconds, and the most memory in MB; the first time warms up."""
    tracemalloc.start()
    try:
        work()
        memory = tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()  # it slows everything down
    seconds = []
    for _ in range(times):
        started = time.thread_time()
        work()
        seconds.append(time.thread_time() - started)
    return 1e3 * median(seconds), memory


def extremes(tell: Tell, times: int = TIMES, parts: Mapping[str, Part] = PARTS) -> Curve:
    rows, lines = [], dict[str, Points]()
    for name, (make, sizes) in parts.items():
        tell(f"extremes: {name}")
        found = {size: cost(make(size), times) for size in sizes}
        both = [{size: costs[place] for size, costs in found.items()} for place in (0, 1)]
        rows += [[f"{name}: {size:,}", *(number(each) for each in costs)] for size, costs in found.items()]
        rows += growth_rows(f"{name}: ", both)
        lines[name] = both[0]
    note = f"{WINDOWS} windows; {REQUESTS} requests of live traffic for each class; all texts in one batch."
    return Curve("extremes", note, ("", "ms", "at most MB"), rows, lines, ("size", "ms"))
