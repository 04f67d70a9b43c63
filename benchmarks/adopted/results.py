"""What was measured round by round, and its ratios to no server in the same round."""

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import numpy as np

from benchmarks.adopted.no_server import BARE, RECORDED, RUN, SINGLE, SORTED
from benchmarks.adopted.workloads import ONE, SCENARIOS

STATUS = {0: "without answer", 429: "refused"}


@dataclass(frozen=True, slots=True)
class Sample:
    """One variant in one round.

    Attributes:
        rate: texts per second that were answered as expected.
        p50: median of a request's seconds.
        busy: share of its core that it had.
        wrong: requests answered with other vectors than expected.
        failed: requests not answered with 200, by HTTP status; 0 where no answer came.
    """

    rate: float
    p50: float
    busy: float
    wrong: int = 0
    failed: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Start:
    """One start of a server, alone.

    Attributes:
        seconds: from exec to the first answer.
        pss, rss: bytes after a load; what is shared with processes of others is not all in `pss`.
    """

    seconds: float
    pss: int
    rss: int
    processes: int


@dataclass(frozen=True, slots=True)
class Ratio:
    """Median over the rounds, the smallest and the largest."""

    median: float
    least: float
    most: float


def summarize(values: list[float]) -> Ratio:
    return Ratio(float(np.median(values)), min(values), max(values))


def rate(sample: Sample) -> float:
    return sample.rate


def cpu_rate(sample: Sample) -> float:
    """Texts per second of its core's time: what else runs on the machine weighs less there."""
    return sample.rate / sample.busy if sample.busy else float("nan")


def latency(sample: Sample) -> float:
    return sample.p50


@dataclass(slots=True)
class Results:
    """Everything, by scenario and variant; `statistics` has seconds of every round in the process without a server."""

    samples: dict[tuple[str, str], list[Sample]] = field(default_factory=dict)
    starts: dict[str, list[Start]] = field(default_factory=dict)
    statistics: dict[str, list[float]] = field(default_factory=dict)

    def ratio(self, scenario: str, name: str, number: Callable[[Sample], float]) -> Ratio | None:
        """A variant's over no server's in the same round; None where one was not measured."""
        reference = self.samples.get((scenario, SINGLE if scenario == ONE.name else SORTED))
        mine = self.samples.get((scenario, name))
        if not mine or not reference:
            return None
        return summarize([number(one) / number(other) for one, other in zip(mine, reference, strict=True)])

    def median(self, scenario: str, name: str, number: Callable[[Sample], float]) -> float:
        return float(np.median([number(sample) for sample in self.samples[scenario, name]]))

    def names(self, scenario: str) -> list[str]:
        return [name for found, name in self.samples if found == scenario]

    def failures(self, scenario: str, name: str) -> str:
        """Requests of a scenario that failed, by status, or were answered wrongly; empty where there were none."""
        counts: Counter[str] = Counter()
        for sample in self.samples.get((scenario, name), []):
            counts.update({STATUS.get(status, str(status)): count for status, count in sample.failed.items()})
            counts["wrong"] += sample.wrong
        return ", ".join(f"{count} {what}" for what, count in (+counts).items())

    def statistics_ratios(self) -> dict[str, Ratio]:
        """Time with statistics over time without, in the same round."""
        pairs = {"recorded / not recorded": (RECORDED, RUN), "recorded / embedding as only output": (RECORDED, BARE)}
        return {
            title: summarize([a / b for a, b in zip(self.statistics[mine], self.statistics[other], strict=True)])
            for title, (mine, other) in pairs.items()
        }

    def raw(self) -> dict[str, object]:
        order = [scenario.name for scenario in SCENARIOS]
        keys = sorted(self.samples, key=lambda key: order.index(key[0]))
        return {
            "samples": [
                {"scenario": key[0], "variant": key[1], "rounds": [asdict(sample) for sample in self.samples[key]]}
                for key in keys
            ],
            "starts": {name: [asdict(start) for start in starts] for name, starts in self.starts.items()},
            "statistics_seconds": self.statistics,
        }
