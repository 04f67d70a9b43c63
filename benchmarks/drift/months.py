"""`python -m benchmarks.drift.months --data DATA`: simulated months, and what an operator would be called for in them.

Each task's model (benchmarks/drift/held_out.py) is asked by the hour: its classes have their days, nights and weekends.
Once an hour, or a quarter of it, all that is known is cut into stretches, as the service does it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from pydantic import Field
from pydantic_settings import CliApp

from benchmarks.document import markdown, write_tables
from benchmarks.drift.task_traffic import Requests, TaskWorld
from benchmarks.drift.tasks import DOCUMENT, OfTasks
from runtime.drift.detector import Floats, Reference
from runtime.drift.stretches import History, Stretch, stretches
from runtime.options import option_config
from runtime.statistics.traffic import Traffic

BUCKET, HOUR, DAY = 300, 12, 288  # seconds; buckets
RATES = (50, 500, 5000)  # requests an hour, on average
Share = Callable[[float], float]  # of new classes at an hour


class Months(OfTasks):
    """Simulates months of traffic to models with held-out classes."""

    model_config = option_config("python -m benchmarks.drift.months")

    months: int = Field(4, ge=1)
    """Months of each rate; incidents of each kind are three times as many."""

    def cli_cmd(self) -> None:
        table, lines = ["task", *(f"calls a month at {rate:,}/h" for rate in RATES)], []
        table += ["requests until a call: 5 %", "5 %, from the first on", "20 %", "`since`, off by (minutes)", "ramp"]
        for name in self.names:
            calls = Calls.of(self.world(name))
            lines.append([name, *(self.cells(calls))])
            print(lines[-1], flush=True)
        tables = {"months": markdown(table, lines)}
        print(tables["months"])
        if self.write:
            write_tables(DOCUMENT, tables)

    def cells(self, calls: "Calls") -> list[str]:
        false = [np.mean([calls.in_month(rate, seed) for seed in range(self.months)]) for rate in RATES]
        seeds = range(3 * self.months)
        soon = [calls.delay(208, 0.05, 72, seed) for seed in seeds]
        first = [calls.delay(208, 0.05, 0, seed) for seed in seeds]
        more = [calls.delay(500, 0.2, 72, seed) for seed in seeds]
        off = [calls.misdated(500, 0.2, seed) for seed in seeds]
        ramps = [calls.within_ramp(500, 0.4, seed) for seed in seeds]
        medians = [told(float(np.median(found))) for found in (soon, first, more, off)]
        return [*(f"{rate:.2f}" for rate in false), *medians, f"{np.mean(ramps):.0%} within it"]


@dataclass(frozen=True, slots=True)
class Asked:
    """Requests as their sums take them.

    Attributes:
        numbers: [R, K].
        judged: what is summed by class [2, R].
        places: of the requests of each true class.
    """

    numbers: Floats
    judged: Floats
    classes: np.ndarray
    places: list[np.ndarray]

    @classmethod
    def of(cls, reference: Reference, requests: Requests) -> "Asked":
        assert reference.unlikeness is not None
        numbers = reference.numbers(requests.features)
        judged = np.stack([numbers[:, -1], reference.unlikeness.accuracy(requests.features)])
        places = [np.flatnonzero(requests.labels == label) for label in np.unique(requests.labels)]
        return cls(numbers, judged, requests.classes, places)


@dataclass(frozen=True, slots=True)
class Calls:
    """When an operator of one model is called."""

    reference: Reference
    ordinary: Asked
    new: Asked

    @classmethod
    def of(cls, world: TaskWorld) -> "Calls":
        asked = [Asked.of(world.reference, world.kinds[kind]) for kind in ("ordinary", "new classes")]
        return cls(world.reference, *asked)

    def traffic(self, rate: float, days: int, seed: int, share: Share) -> list[Traffic]:
        """Buckets; a third of the classes has its days and nights, a third its weekends."""
        rng = np.random.default_rng(seed)
        group = rng.integers(3, size=len(self.ordinary.places))
        found = []
        for bucket in range(days * DAY):
            hour = bucket / HOUR
            weekend = hour // 24 % 7 >= 5
            busy = (0.5 if weekend else 1.2) * (1 + 0.7 * np.sin(2 * np.pi * (hour - 8) / 24))
            weights = np.array([1.0, 1 + 0.8 * np.sin(2 * np.pi * hour / 24), 0.4 if weekend else 1.2])[group]
            count = rng.poisson(rate * busy / HOUR)
            found.append(self.bucket(rng, count, share(hour), weights / weights.sum()))
        return found

    def bucket(self, rng: np.random.Generator, count: int, share: float, shares: Floats) -> Traffic:
        odd = rng.binomial(count, share)
        each = rng.multinomial(count - odd, shares)
        places = [rng.choice(at, size) for at, size in zip(self.ordinary.places, each, strict=True) if size]
        mine = np.concatenate([np.zeros(0, dtype=np.int64), *places])
        other = rng.integers(len(self.new.classes), size=odd)
        parts = ((self.ordinary, mine), (self.new, other))
        numbers = np.concatenate([asked.numbers[at] for asked, at in parts])
        classes = np.concatenate([asked.classes[at] for asked, at in parts])
        judged = np.concatenate([asked.judged[:, at] for asked, at in parts], axis=1)
        return Traffic.of(numbers, classes, len(self.reference.counts), (), judged)

    def looks(self, buckets: list[Traffic], every: int = HOUR) -> list[Stretch]:
        """The last stretch at each look: what is older than a day is one bucket, as in the service."""
        older, found = Traffic.nothing(), []
        for end in range(every, len(buckets) + 1, every):
            first = max(0, end - DAY)
            older = older.merge(Traffic.merge_all(buckets[max(0, first - every) : first]))
            day = [(float(at * BUCKET), buckets[at]) for at in range(first, end)]
            history: History = [(0.0, older), *day]
            found.append(stretches(self.reference, history, float(end * BUCKET))[-1])
        return found

    def in_month(self, rate: float, seed: int) -> int:
        """Calls in a month of ordinary traffic."""
        called = [is_called(last) for last in self.looks(self.traffic(rate, 30, seed, lambda _: 0.0))]
        return sum(now and not before for before, now in zip([False, *called], called, strict=False))

    def delay(self, rate: float, share: float, begins: int, seed: int) -> float:
        """Requests from the hour on at which new classes begin until the call; infinite where there is none."""
        buckets = self.traffic(rate, begins // 24 + 3, seed, lambda hour: share if hour >= begins else 0.0)
        sums = np.cumsum([traffic.requests for traffic in buckets])
        for number, last in enumerate(self.looks(buckets, every=3), start=1):
            if last.end > begins * 3600 and is_called(last):
                return float(sums[number * 3 - 1] - (sums[begins * HOUR - 1] if begins else 0))
        return float("inf")

    def misdated(self, rate: float, share: float, seed: int) -> float:
        """Minutes between the beginning of new classes and what `since` says at the end of the day."""
        began = np.random.default_rng(100 + seed).uniform(6, 22)
        last = self.day(rate, lambda hour: share if hour >= began else 0.0, seed)
        return abs(last.start / 3600 - began) * 60 if last.state == "drift" else float("inf")

    def within_ramp(self, rate: float, share: float, seed: int) -> bool:
        """Whether `since` lies within six hours in which new classes grow to their share."""
        began = np.random.default_rng(100 + seed).uniform(4, 14)
        last = self.day(rate, lambda hour: share * float(np.clip((hour - began) / 6, 0, 1)), seed)
        return last.state == "drift" and 0 <= last.start / 3600 - began <= 6

    def day(self, rate: float, share: Share, seed: int) -> Stretch:
        """The last stretch of a day, before which there was another."""
        buckets = self.traffic(rate, 2, seed, lambda hour: share(hour - 24))
        last = self.looks(buckets, every=DAY)[-1]
        return Stretch(last.state, last.start - 86_400, last.end, last.earliest, last.latest, last.sure)


def told(median: float) -> str:
    return f"{median:,.0f}" if np.isfinite(median) else "not in 3 days"


def is_called(last: Stretch) -> bool:
    return last.state == "drift" and last.sure


if __name__ == "__main__":
    CliApp.run(Months)
