"""Times of variants, measured in turns within one run: what else the machine does then meets all of them."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

WARM_UPS = 2
TIMES = 10


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure.

    Attributes:
        seconds: of all variants together, warm-up not counted.
        fewest: rounds, however long they take.
        most: rounds.
    """

    seconds: float
    fewest: int = 5
    most: int = 200


@dataclass(frozen=True, slots=True)
class Ratio:
    """Of two variants' times in the same round: median, 10th and 90th percentile."""

    median: float
    low: float
    high: float


def synchronize(device: str) -> None:
    """Waits for what a GPU still has to do."""
    if device == "cuda":
        torch.cuda.synchronize()


def best(run: Callable[[], object], device: str, seconds: float) -> float:
    """Seconds of a run, on a device that is kept busy: the best of TIMES times, each of several runs."""
    run()
    synchronize(device)
    started = time.perf_counter()
    run()
    synchronize(device)
    repeats = max(1, int(seconds / TIMES / max(time.perf_counter() - started, 1e-7)))
    found = list[float]()
    for _ in range(TIMES):
        started = time.perf_counter()
        for _ in range(repeats):
            run()
        synchronize(device)
        found.append((time.perf_counter() - started) / repeats)
    return min(found)


def working(
    variants: Mapping[str, Callable[[], object]],
) -> tuple[dict[str, Callable[[], object]], dict[str, str]]:
    """Warms all variants up: those that run, and why the others do not, such as for want of memory."""
    able, failed = dict[str, Callable[[], object]](), dict[str, str]()
    for name, run in variants.items():
        try:
            for _ in range(WARM_UPS):
                run()
            able[name] = run
        except Exception as error:  # a benchmark goes on without what cannot be had
            failed[name] = reason(error)
    return able, failed


def in_turns(variants: Mapping[str, Callable[[], object]], effort: Effort) -> dict[str, list[float]]:
    """Seconds of every variant in every round; each run ends when its result is there. The order changes by round."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    names, started, number = list(variants), time.perf_counter(), 0
    while number < effort.fewest or (number < effort.most and time.perf_counter() - started < effort.seconds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            before = time.perf_counter()
            variants[name]()
            times[name].append(time.perf_counter() - before)
        number += 1
    return times


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of all do not exceed."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, max(0, -int(-share * len(ranked) // 1) - 1))]


def ratio(mine: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """Of the times of two variants, round by round."""
    each = [one / other for one, other in zip(mine, theirs, strict=True)]
    return Ratio(statistics.median(each), percentile(each, 0.1), percentile(each, 0.9))


def reason(error: Exception) -> str:
    """An error's kind and its first line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
