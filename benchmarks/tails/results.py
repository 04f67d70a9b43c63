"""What was measured: quantiles beside the control's, and what ran beside the slowest requests."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from benchmarks.document import markdown
from benchmarks.serving.open_loop import Answers
from benchmarks.tails.control import Times, fit_times
from benchmarks.tails.traced import BATCH, Note

OURS, CONTROL = "AddNorm", "control"
LIMIT = 1.5  # of p99/p50 of ours over that of the control
HELD = 5e-4  # seconds that one activity may hold up a request
WORST = 100  # requests
LOST = 1e-4  # seconds that a batch has no core, from which on it is told
OTHERS = "batch: other threads of the service had its core"
NOBODY = "batch: nobody of the service had its core"

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Phase:
    """One open loop of one server; seconds.

    Attributes:
        beside: what was asked meanwhile, in a word.
        rate: requests/s that were offered.
        answered: share of them with status 200.
        late: 99th percentile of how much later requests were sent than they were due.
        busy: share of its core that the server had.
    """

    server: str
    beside: str
    round: int
    rate: float
    p50: float
    p99: float
    p999: float
    answered: float
    late: float
    busy: float

    @property
    def tail(self) -> float:
        return self.p99 / self.p50


def measured(server: str, beside: str, number: int, rate: float, answers: Answers, busy: float) -> Phase:
    latencies = answers.latency(200)
    p50, p99, p999 = (float(each) for each in np.percentile(latencies, (50, 99, 99.9)))
    late = float(np.nanpercentile(answers.sent - answers.due, 99))
    return Phase(server, beside, number, rate, p50, p99, p999, answers.share(200), late, busy)


@dataclass(frozen=True, slots=True)
class Ratio:
    """p99/p50 of ours over p99/p50 of the control, of the same rounds."""

    beside: str
    middle: float
    least: float
    most: float

    @property
    def met(self) -> bool:
        return self.middle <= LIMIT


def ratios(phases: Sequence[Phase]) -> list[Ratio]:
    """Of each thing that was asked beside."""
    found = []
    for beside in dict.fromkeys(phase.beside for phase in phases):
        tails = {(phase.server, phase.round): phase.tail for phase in phases if phase.beside == beside}
        rounds = sorted({number for _, number in tails})
        each = [tails[OURS, number] / tails[CONTROL, number] for number in rounds]
        found.append(Ratio(beside, median(each), min(each), max(each)))
    return found


def tails_table(phases: Sequence[Phase]) -> str:
    """Medians over the rounds."""
    header = ["server", "asked beside", "requests/s", "p50 ms", "p99 ms", "p99.9 ms", "p99/p50", "least", "most"]
    header += ["answered", "sent late, p99 ms", "share of its core"]
    rows = []
    for server, beside in dict.fromkeys((phase.server, phase.beside) for phase in phases):
        some = [phase for phase in phases if (phase.server, phase.beside) == (server, beside)]
        tails = [phase.tail for phase in some]
        times = [1e3 * median(getattr(phase, name) for phase in some) for name in ("p50", "p99", "p999", "late")]
        row = [server, beside, f"{median(phase.rate for phase in some):,.0f}", *(f"{ms:.2f}" for ms in times[:3])]
        row += [f"{median(tails):.2f}", f"{min(tails):.2f}", f"{max(tails):.2f}"]
        row += [f"{min(phase.answered for phase in some):.1%}", f"{times[3]:.2f}"]
        rows.append([*row, f"{median(phase.busy for phase in some):.2f}"])
    return markdown(header, rows)


def ratios_table(found: Sequence[Ratio]) -> str:
    rows = [
        [each.beside, f"{each.middle:.2f} ({each.least:.2f} to {each.most:.2f})", "yes" if each.met else "**no**"]
        for each in found
    ]
    return markdown(["asked beside", "p99/p50, ours over the control's", f"at most {LIMIT:g}"], rows)


def batch_times(notes: Sequence[Note]) -> Times:
    """What the batches of a trace took of a core, by their size."""
    sizes = [(note.rows, note.tokens, note.cpu) for note in notes if note.name == BATCH]
    batches = np.array(sizes, dtype=np.float64).reshape(-1, 3)
    if len(batches) < 100:
        raise SystemExit(f"The trace holds {len(batches)} batches, at least 100 are needed: measure for longer.")
    return fit_times(*batches.T)


@dataclass(frozen=True, slots=True)
class Activity:
    """What one kind of note has to do with the slowest requests; seconds.

    Attributes:
        in_loop: whether it ran in the event loop, which answers nobody meanwhile; else in threads beside it.
        count, median, p99, most: of its notes while requests were measured.
        held: 99th percentile of what it cost others: in the event loop, of its own core time; in a thread, of how long
            threads of the service had the core of a batch, over the batches that it overlapped.
        worst: how many of the slowest requests it overlapped.
        usual: share of all requests that it overlapped: what chance alone would give.
    """

    name: str
    in_loop: bool
    count: int
    median: float
    p99: float
    most: float
    held: float
    worst: int
    usual: float


def with_waits(notes: Sequence[Note]) -> list[Note]:
    """The notes, with how long batches had no core in the place of the batches."""
    waits = []
    for note in notes:
        if note.name == BATCH:
            waited = {OTHERS: note.others, NOBODY: note.seconds - note.cpu - note.others}
            waits += [
                note._replace(name=name, seconds=seconds, cpu=seconds)
                for name, seconds in waited.items()
                if seconds >= LOST
            ]
    return [*(note for note in notes if note.name != BATCH), *waits]


def overlapped(start: Floats, stop: Floats, begun: Floats, ended: Floats) -> NDArray[np.bool_]:
    """Which requests, [start, stop) [R], overlap any of some stretches of time, [begun, ended) [N], in any order."""
    begins_before = np.searchsorted(np.sort(begun), stop, side="left")
    ends_before = np.searchsorted(np.sort(ended), start, side="right")
    return np.asarray(begins_before > ends_before)


def activities(notes: Sequence[Note], answers: Answers, began: float, worst: int = WORST) -> tuple[list[Activity], int]:
    """What ran beside the slowest requests, most often first; and how many of them had nothing of it beside them.

    Args:
        began: when the load began, on the clock of the notes.
    """
    good = answers.status == 200
    start, stop = began + answers.due[good], began + answers.answered[good]
    slowest = np.argsort(start - stop, kind="stable")[:worst]
    first, last = start.min(), stop.max()
    within = [note for note in notes if first <= note.start + note.seconds and note.start <= last]
    batches = times_of([note for note in within if note.name == BATCH])
    kinds: dict[tuple[str, bool], list[Note]] = {}
    for note in with_waits(within):
        kinds.setdefault((note.name, note.in_loop), []).append(note)
    found, any_touched = [], np.zeros(len(start), dtype=bool)
    for (name, in_loop), some in kinds.items():
        begun, ended, cpu, _ = times_of(some)
        touched = overlapped(start, stop, begun, ended)
        any_touched |= touched
        if not in_loop:
            cpu = batches[3][overlapped(*batches[:2], begun, ended)]
        held = float(np.percentile(cpu, 99)) if len(cpu) else 0.0
        times = [float(each) for each in np.percentile(ended - begun, (50, 99, 100))]
        beside = int(touched[slowest].sum()), float(touched.mean())
        found.append(Activity(name, in_loop, len(some), *times, held, *beside))
    return sorted(found, key=lambda each: (-each.worst, -each.most)), int((~any_touched[slowest]).sum())


def times_of(notes: Sequence[Note]) -> Floats:
    """When each began and ended, its core time, and that of others meanwhile [4, N]."""
    times = [(note.start, note.start + note.seconds, note.cpu, note.others) for note in notes]
    return np.array(times).reshape(-1, 4).T


def activities_table(found: Sequence[Activity], worst: int = WORST) -> str:
    header = ["activity", "where", "count", "median ms", "p99 ms", "max ms", "held up others, p99 ms"]
    header += [f"beside the slowest {worst}", "beside all requests"]
    rows = []
    for each in found:
        times = [f"{1e3 * seconds:.2f}" for seconds in (each.median, each.p99, each.most, each.held)]
        where = "event loop" if each.in_loop else "thread"
        rows.append([each.name, where, f"{each.count:,}", *times, str(each.worst), f"{each.usual:.1%}"])
    return markdown(header, rows)


def too_long(found: Sequence[Activity]) -> list[str]:
    """What the service does itself and held up others for longer than one activity may."""
    return [each.name for each in found if each.name not in (OTHERS, NOBODY) and each.held > HELD]
