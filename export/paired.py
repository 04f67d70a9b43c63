"""Paired timing: every variant runs once in every round, in turn, so that a noisy machine slows all of them alike."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """One variant's result.

    Attributes:
        seconds: median over the rounds.
        ratio: median over the rounds of this variant's time over the reference's in the same round.
        spread: 10th and 90th percentile of that ratio.
    """

    seconds: float
    ratio: float
    spread: tuple[float, float]


def compare(variants: Mapping[str, Callable[[], object]], rounds: int = 30) -> dict[str, Timing]:
    """Times the variants against the first of them, which is the reference."""
    times = time_rounds(variants, rounds)
    reference = times[next(iter(variants))]
    return {name: summarize(seconds, reference) for name, seconds in times.items()}


def time_rounds(variants: Mapping[str, Callable[[], object]], rounds: int = 30) -> dict[str, list[float]]:
    """Seconds of every variant in every round."""
    for run in variants.values():
        run()  # warm-up
    times: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(rounds):
        names = list(variants)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            started = time.perf_counter()
            variants[name]()
            times[name].append(time.perf_counter() - started)
    return times


def summarize(seconds: list[float], reference: list[float]) -> Timing:
    ratios = sorted(mine / theirs for mine, theirs in zip(seconds, reference, strict=True))
    tenth = len(ratios) // 10
    return Timing(statistics.median(seconds), statistics.median(ratios), (ratios[tenth], ratios[-1 - tenth]))
