"""What recording and reports cost, by how full the rings of time buckets are, and by how many classes drift is judged.

CPU time of one process, without HTTP. The clock is made up: rings filled to a share s hold the last s of the hour in
buckets of 10 seconds, and the last s of the day in buckets of 5 minutes. Each report comes 10 seconds after the one
before, and another batch came between, so nothing of it can be kept from the last one.
"""

import time
import tracemalloc
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median

from benchmarks.curves.curve import GROWTH, Curve, Points, Tell, growth, number
from benchmarks.curves.networks import Shape, make_artifact, text_of
from runtime.artifact import Artifact
from runtime.graph.batch import EncodedBatch
from runtime.graph.encoder import Encoder
from runtime.graph.texts import make_input_encoder
from runtime.statistics.windows import SHAPES
from service.norm_stats.collector import Collector
from service.norm_stats.interface import AllLayers, History, Query, WindowQuery
from service.settings import Settings

NORMS_OF = Shape(layers=12, width=64)  # 25 norms
SHARES = (0.0, 0.25, 0.5, 1.0)
MANY = 10_000  # classes of one more column
ROWS, LENGTH, BATCHES = 32, 12, 8  # texts of a batch, tokens of a text, different batches
RECORDED = 200  # batches, of which the median is taken
STEP = SHAPES[0][0]  # seconds of the shortest bucket
HOUR, DAY = (seconds * (size - 1) for seconds, size in SHAPES)
REPORTS: dict[str, Query] = {
    "GET /norm-stats": AllLayers(WindowQuery()),
    "GET /norm-stats?window=1h": AllLayers(WindowQuery("1h")),
    "GET /norm-stats?window=24h": AllLayers(WindowQuery("24h")),
    "GET /norm-stats/history": History(WindowQuery("1h")),
    "GET /norm-stats/history?window=24h": History(WindowQuery("24h")),
}
RECORD, CLOSE, SNAPSHOT = f"recording {ROWS} texts", "ending a bucket", "its part of GET /metrics"
BUCKETS, MEMORY = "time buckets", "memory, MB"
Costs = dict[str, float]  # milliseconds, by what was done


@dataclass(frozen=True, slots=True)
class Recorded:
    """A collector whose clock is set by hand, and batches to record.

    Attributes:
        now: the time in Unix seconds, in a list of one.
    """

    collector: Collector
    batches: list[EncodedBatch]
    now: list[float]

    @classmethod
    def of(cls, artifact: Artifact) -> "Recorded":
        encoder, inputs = Encoder(artifact), make_input_encoder(artifact)
        texts = [[text_of(LENGTH, ROWS * batch + row) for row in range(ROWS)] for batch in range(BATCHES)]
        batches = [encoder.run([item.tokens for item in inputs.encode(rows)]) for rows in texts]
        collector = Collector(artifact, Settings(device="cpu"))
        now = [time.time() // DAY * DAY]
        collector.recorder.clock = lambda: now[0]
        return cls(collector, batches, now)

    def fill(self, share: float) -> int:
        """Traffic for this share of the hour and of the day that end now; gives the number of closed buckets."""
        recorder, end = self.collector.recorder, self.now[0]
        when = recorder.since = end - share * DAY
        while when < end:
            self.now[0] = when
            self.observe()
            when += STEP if end - when <= share * HOUR else SHAPES[1][0]
        self.now[0] = end
        recorder.state()  # adds what is held to the buckets
        return sum(len(ring.closed) for ring in recorder.windows.rings)

    def observe(self) -> None:
        self.collector.observe(self.batches[int(self.now[0] // STEP) % BATCHES], 0.0)

    def step(self) -> None:
        """Goes on to the next bucket, in which a batch comes."""
        self.now[0] += STEP
        self.observe()

    def costs(self, times: int) -> Costs:
        """Medians of so many times, in milliseconds."""
        self.observe()
        found = {RECORD: middle(self.observe, RECORDED)}
        found[CLOSE] = middle(self.step, times)
        for name, query in REPORTS.items():
            found[name] = middle(lambda query=query: self.collector.report(query), times, self.step)  # type: ignore[misc]
        found[SNAPSHOT] = middle(self.collector.snapshot, times, self.step)
        return found


def middle(work: Callable[[], object], times: int, before: Callable[[], None] = lambda: None) -> float:
    """The median CPU time in milliseconds; `before` is done each time, and not counted."""
    seconds = []
    for _ in range(times):
        before()
        started = time.thread_time()
        work()
        seconds.append(time.thread_time() - started)
    return 1e3 * median(seconds)


def measure(artifact: Artifact, share: float, times: int) -> Costs:
    """The costs of one share of the rings, the buckets that it is, and their memory."""
    recorded = Recorded.of(artifact)
    tracemalloc.start()
    try:
        buckets = recorded.fill(share)
        size = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()  # it slows everything down
    return {BUCKETS: float(buckets), MEMORY: size / 1e6, **recorded.costs(times)}


def history(shares: Iterable[float], times: int, tell: Tell, shape: Shape = NORMS_OF, many: int | None = MANY) -> Curve:
    """The table has a column for each share, and one of full rings with many classes."""
    tell(f"history: exporting {shape}")
    artifact = make_artifact(shape)
    found: dict[str, Costs] = {}
    for share in shares:
        tell(f"history: rings filled to {share:.0%}")
        found[f"{share:.0%} full"] = measure(artifact, share, times)
    columns = dict(found)
    if many is not None:
        tell(f"history: {many:,} classes")
        wide = make_artifact(Shape(shape.layers, shape.width, many, shape.max_tokens))
        columns[f"100% full, {many:,} classes"] = measure(wide, 1.0, times)
    names = list(next(iter(found.values())))
    lines = {name: by_buckets(found.values(), name) for name in names if name != BUCKETS}
    rows = [
        [
            name,
            *(number(costs[name]) for costs in columns.values()),
            *(growth(lines[name]) if name in lines else ("", "")),
        ]
        for name in names
    ]
    note = f"{shape.norms} norms, {shape.classes} classes where not said otherwise; a batch of {ROWS} texts a bucket."
    header = ("ms", *columns, *GROWTH)
    panel = {name: points for name, points in lines.items() if name != MEMORY}
    return Curve("history", note, header, rows, panel, (BUCKETS, "ms"))


def by_buckets(found: Iterable[Costs], name: str) -> Points:
    """A cost by the number of buckets, of those rings that hold some."""
    return {costs[BUCKETS]: costs[name] for costs in found if costs[BUCKETS]}
