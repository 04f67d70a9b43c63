"""`addnorm serve` with one worker, and a trace of what may hold up its event loop or Python's global lock.

    python -m benchmarks.tails.traced TRACE --model MODEL --port PORT ...       the options of `addnorm serve` follow

Nothing of the service is changed: functions are replaced from outside by ones that note when they began and how long
they took, on the clock of time.monotonic, which is time.perf_counter's and every process's on Linux. Notes are numbers
in one array that is allocated at the start: notes that were objects would cause the collections of garbage that are
looked for. At the end (SIGTERM) the array is written as JSON lines; `read_trace` reads them.
"""

import gc
import itertools
import json
import sys
import threading
import time
from array import array
from collections.abc import Callable, Coroutine, Generator
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple

from addnorm.cli import main
from runtime.graph import encoder
from runtime.statistics.recorder import NormRecorder
from runtime.statistics.windows import Windows
from runtime.store.sqlite import StateStore
from service.api import monitoring
from service.batching.batcher import Batcher
from service.batching.executors import Batch, LoopExecutor
from service.inference.engine import ModelRunner
from service.norm_stats.collector import Collector
from service.page import events
from service.repository.control import LocalParticipant
from service.telemetry.aggregator import Aggregator, Reporter
from service.telemetry.counters import RequestCounters
from service.telemetry.request_log import RequestLogMiddleware

SIZE = 1 << 18  # notes that are kept, the newest; 17 MB
COLUMNS = 8
LEAST = 50e-6  # seconds; what was shorter is not noted
BATCH = "batch"
# what is traced: where it is, its name there, and its name in the trace
TRACED: tuple[tuple[Any, str, str], ...] = (
    (NormRecorder, "_fold", "fold statistics"),
    (NormRecorder, "_settle", "settle statistics"),
    (Windows, "add", "add to windows"),
    (NormRecorder, "window", "read a window"),
    (NormRecorder, "figures", "read figures"),
    (NormRecorder, "history", "read history"),
    (NormRecorder, "buckets", "read buckets"),
    (NormRecorder, "observe_deep", "count a deep look"),
    (ModelRunner, "look_deeper", "deep look"),
    (StateStore, "save_changed", "keep state"),
    (StateStore, "save", "write state"),
    (Collector, "snapshot", "snapshot for /metrics"),
    (monitoring, "_rendered", "GET /metrics, in a thread"),
    (events, "summary", "summary for the page"),
    (LocalParticipant, "_make", "load a model"),
    (encoder, "verify_canary", "canary"),
    (LocalParticipant, "_turn", "turn of the repository"),
    (Reporter, "hand_in", "hand in counts"),
    (Aggregator, "report", "report counts"),
    (RequestCounters, "_count", "count phases"),
)


class Note(NamedTuple):
    """What was done, when it began, and its duration; seconds on the monotonic clock.

    Attributes:
        cpu: seconds for which its thread had a core.
        in_loop: whether that is the event loop's thread.
        others: of a batch, seconds for which other threads of the service had a core.
        rows, tokens: of a batch.
    """

    name: str
    start: float
    seconds: float
    cpu: float
    in_loop: bool = True
    others: float = 0.0
    rows: int = 0
    tokens: int = 0


class Ring:
    """The newest notes. Threads may note at the same time."""

    def __init__(self, size: int = SIZE) -> None:
        self.size, self.values = size, array("d", bytes(8 * COLUMNS * size))
        self.names: dict[str, int] = {}
        self._numbers, self.loop_thread = itertools.count(), threading.main_thread().ident
        self.facts: dict[str, Any] = {"max_batch_tokens": 0, "in_loop": True}

    def note(
        self, name: str, start: float, seconds: float, cpu: float, others: float = 0.0, rows: int = 0, tokens: int = 0
    ) -> None:
        """Of this thread."""
        values, place = self.values, next(self._numbers) % self.size * COLUMNS
        number = self.names.get(name)
        values[place] = self.names.setdefault(name, len(self.names)) if number is None else number
        values[place + 1], values[place + 2], values[place + 3] = start, seconds, cpu
        values[place + 4] = threading.get_ident() == self.loop_thread
        values[place + 5], values[place + 6], values[place + 7] = others, rows, tokens

    def notes(self) -> list[Note]:
        """In the order in which they began."""
        names, found = list(self.names), []
        for place in range(0, len(self.values), COLUMNS):
            number, start, seconds, cpu, in_loop, others, rows, tokens = self.values[place : place + COLUMNS]
            if start:
                name = names[int(number)]
                found.append(Note(name, start, seconds, cpu, bool(in_loop), others, int(rows), int(tokens)))
        return sorted(found, key=lambda note: note.start)

    def write(self, path: Path) -> None:
        lines = [json.dumps(self.facts), *map(json.dumps, self.notes())]
        path.write_text("\n".join(lines) + "\n")


def read_trace(path: Path) -> tuple[dict[str, Any], list[Note]]:
    """What is known of the service, and the notes."""
    first, *others = path.read_text().splitlines()
    return json.loads(first), [Note(*json.loads(line)) for line in others]


def timed(
    ring: Ring, name: str, function: Callable[..., Any], clock: Callable[[], float] = time.monotonic
) -> Callable[..., Any]:
    """The function; that it ran is noted, even where it raises."""

    @wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        cpu, started = time.thread_time(), clock()
        try:
            return function(*arguments, **named)
        finally:
            if (seconds := clock() - started) >= LEAST:
                ring.note(name, started, seconds, time.thread_time() - cpu)

    return call


class Steps:
    """A coroutine whose steps are noted one by one: between them, the event loop does something else."""

    def __init__(self, ring: Ring, name: str, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.ring, self.name, self.coroutine = ring, name, coroutine

    def __await__(self) -> Generator[Any, Any, Any]:
        send, value = timed(self.ring, self.name, self.coroutine.send), None
        throw = timed(self.ring, self.name, self.coroutine.throw)
        try:
            waited = send(None)
            while True:
                try:
                    value = yield waited
                except BaseException as error:  # a cancellation, for one
                    waited = throw(error)
                else:
                    waited = send(value)
        except StopIteration as end:
            return end.value


def trace_garbage(ring: Ring, clock: Callable[[], float] = time.monotonic) -> Callable[[str, dict[str, int]], None]:
    """A function for gc.callbacks."""
    started = cpu = 0.0

    def called(phase: str, info: dict[str, int]) -> None:
        nonlocal started, cpu
        if phase == "start":
            started, cpu = clock(), time.thread_time()
        else:
            name = f"collect garbage, generation {info['generation']}"
            ring.note(name, started, clock() - started, time.thread_time() - cpu)

    return called


def trace_batches(ring: Ring) -> None:
    """Notes every batch, from its begin to its last answer, with its size."""
    make, begin, end = Batcher.__init__, Batcher.begin, Batcher.end
    before = 0.0, 0.0  # the core time of the event loop's thread, and of all threads

    def made(batcher: Batcher, *arguments: Any, **named: Any) -> None:
        make(batcher, *arguments, **named)
        ring.facts["max_batch_tokens"] = max(ring.facts["max_batch_tokens"], batcher.max_batch_tokens)
        ring.facts["in_loop"] &= isinstance(batcher.executor, LoopExecutor)

    def begun(batcher: Batcher) -> Batch | None:
        nonlocal before
        before = time.thread_time(), time.process_time()
        return begin(batcher)

    def ended(batcher: Batcher, batch: Batch, outcomes: list[Any], since: float) -> Any:
        found = end(batcher, batch, outcomes, since)
        cpu, total = time.thread_time() - before[0], time.process_time() - before[1]
        lengths = [len(row) for rows in batch.rows for row in rows]
        seconds = time.monotonic() - batch.started
        ring.note(BATCH, batch.started, seconds, cpu, max(0.0, total - cpu), len(lengths), sum(lengths))
        return found

    Batcher.__init__, Batcher.begin, Batcher.end = made, begun, ended  # type: ignore[method-assign]


def trace_requests(ring: Ring) -> None:
    """Notes what answers other requests than predictions: steps in the event loop, and reports in threads."""
    handle, report, run = RequestLogMiddleware.__call__, Collector.report, LocalParticipant._run

    async def handled(middleware: RequestLogMiddleware, scope: Any, receive: Any, send: Any) -> None:
        name = f"{scope.get('method', scope['type'])} {scope.get('path', '')}, in the event loop"
        await Steps(ring, name, handle(middleware, scope, receive, send))

    def reported(collector: Collector, query: Any) -> bytes:
        name = f"report {type(query).__name__}, in a thread"
        return timed(ring, name, report)(collector, query)  # type: ignore[no-any-return]

    def ran(participant: LocalParticipant, job: Any, then: Any) -> None:
        run(participant, timed(ring, "job of the repository", job), timed(ring, "end of a repository's job", then))

    RequestLogMiddleware.__call__ = handled  # type: ignore[method-assign]
    Collector.report, LocalParticipant._run = reported, ran  # type: ignore[method-assign]


def trace(ring: Ring) -> None:
    """Replaces what is traced."""
    for place, attribute, name in TRACED:
        setattr(place, attribute, timed(ring, name, getattr(place, attribute)))
    trace_batches(ring)
    trace_requests(ring)
    gc.callbacks.append(trace_garbage(ring))


if __name__ == "__main__":
    notes = Ring()
    trace(notes)
    try:
        code = main(["serve", *sys.argv[2:]])
    finally:
        notes.write(Path(sys.argv[1]))
    sys.exit(code)
