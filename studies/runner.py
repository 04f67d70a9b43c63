"""Runs the cells that are missing, on all CPUs that it may use, and keeps each as soon as it is there."""

import signal
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TimeElapsedColumn

from runtime.console import PlainConsole, described
from runtime.cpus import usable_cpus
from runtime.errors import DataError
from studies.cells import KEPT, Cells
from studies.claim import Cell, Claim, Measures
from studies.claims import CLAIMS

SAVED = 5.0  # seconds between two writes of a file


class Study:
    """Claims and their files.

    Args:
        claims: which are run.
        seeds: which are reported.
        folder: where cells are kept.

    Raises:
        DataError: what was kept cannot be used.
    """

    def __init__(self, claims: Sequence[Claim], seeds: Sequence[int], folder: Path = KEPT) -> None:
        self.seeds = seeds
        self.files = [Cells(claim, folder) for claim in claims]
        self.waiting: dict[Future[Measures], tuple[Cells, Cell]] = {}
        self.asked: set[tuple[str, Cell]] = set()
        self.failed: list[str] = []

    def run(self, console: PlainConsole, processes: int | None = None) -> None:
        """Runs what is missing. What was computed is kept, however this ends.

        Raises:
            KeyboardInterrupt: it was interrupted.
            DataError: cells cannot be kept, or some failed; the others are run first.
        """
        context = get_context("spawn")  # torch's threads do not survive a fork
        pool = ProcessPoolExecutor(processes or usable_cpus(), context, initializer=prepare)
        columns = (described(), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        try:
            with Progress(*columns, console=console) as progress:
                tasks = {file: progress.add_task(file.claim.number, total=0) for file in self.files}
                self._run(pool, progress, tasks)
        except BrokenProcessPool as error:
            raise DataError(
                f"A process ended ({error}): run the command again, it goes on with what is kept."
            ) from error
        finally:
            self._keep_all()  # before those that run have ended, if nobody wants to wait for them
            pool.shutdown(wait=True, cancel_futures=True)
            self._keep_all()
        if self.failed:
            raise DataError(" ".join(self.failed))

    def _run(self, pool: ProcessPoolExecutor, progress: Progress, tasks: dict[Cells, TaskID]) -> None:
        for file in [file for file in self.files if self._prepare(file, progress)]:
            self._ask(pool, file, progress, tasks[file])
        while self.waiting:
            done, _ = wait(self.waiting, return_when=FIRST_COMPLETED)
            for future in done:
                file, cell = self.waiting.pop(future)
                self._keep(file, cell, future)
                progress.advance(tasks[file])
                if not any(other is file for other, _ in self.waiting.values()):
                    file.save_changes()
                    self._ask(pool, file, progress, tasks[file])

    def _prepare(self, file: Cells, progress: Progress) -> bool:
        """Has what a claim reads, once and before processes ask for it; says at once where that cannot be had."""
        try:
            if file.claim.missing(file.results, self.seeds):
                file.claim.prepare()
        except DataError as error:
            self.failed.append(f"{file.claim.number}: {error}")
            progress.console.print(f"{self.failed[-1]} The other claims run.")
            return False
        return True

    def _ask(self, pool: ProcessPoolExecutor, file: Cells, progress: Progress, task: TaskID) -> None:
        """Submits what is missing of a claim; the cells that are reported follow from those that choose rates."""
        number = file.claim.number
        cells = [each for each in file.claim.missing(file.results, self.seeds) if (number, each) not in self.asked]
        for cell in cells:
            self.asked.add((number, cell))
            self.waiting[pool.submit(run_cell, number, cell)] = file, cell
        progress.update(task, total=(progress.tasks[task].total or 0) + len(cells))

    def _keep_all(self) -> None:
        """Keeps what was computed and not looked at, where the study is ended before."""
        for future, (file, cell) in self.waiting.items():
            if future.done() and not future.cancelled() and future.exception() is None:
                file.add(cell, future.result())
        for file in self.files:
            file.save_changes()

    def _keep(self, file: Cells, cell: Cell, future: Future[Measures]) -> None:
        try:
            file.add(cell, future.result())
        except BrokenProcessPool:
            raise
        except Exception as error:
            self.failed.append(f"{file.claim.number} {cell.key} failed ({error!r}).")
        if time.monotonic() - file.saved > SAVED:
            file.save_changes()


def prepare() -> None:
    """A process runs one cell at a time, on one core; an interruption is its parent's affair."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)


def run_cell(number: str, cell: Cell) -> Measures:
    """The measures of a cell; the same wherever it runs."""
    torch.manual_seed(cell.seed)
    return CLAIMS[number].run(cell)
