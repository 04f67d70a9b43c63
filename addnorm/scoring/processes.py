"""Spreads chunks over processes, and gives what they become in the order of the file.

Each process has a pipe of its own: one that is killed while it writes cannot block the others, as it can in the shared
queue of concurrent.futures.
"""

import signal
import traceback
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.resource_tracker import ensure_running

from addnorm.scoring.chunks import Chunk
from addnorm.scoring.scorer import Options, Scored, open_scorer
from runtime.errors import AddNormError, SettingError

AHEAD = 2  # chunks for each process, running or waiting for their turn: what is held in memory at a time
STOPS = {signal.SIGINT, signal.SIGTERM}
SPAWN = get_context("spawn")  # a fork would copy locks that threads hold


def score_chunks(chunks: Iterable[Chunk], options: Options, processes: int) -> Generator[Scored, None, None]:
    """Scores chunks, in their order; with one process, in this one.

    Raises:
        AddNormError: what reading them or opening the model raises.
        SettingError: a process was killed.
    """
    if processes == 1:
        scorer = open_scorer(options)
        return (scorer.score(chunk) for chunk in chunks)
    return spread(chunks, options, processes)


def spread(chunks: Iterable[Chunk], options: Options, processes: int) -> Generator[Scored, None, None]:
    workers: list[Worker] = []
    idle: list[Worker] = []
    done: dict[int, Scored] = {}
    numbered, turn = enumerate(chunks), 0
    try:
        item = next(numbered, None)
        while item is not None or turn in done or len(idle) < len(workers):
            while item is not None and item[0] - turn < AHEAD * processes and (idle or len(workers) < processes):
                if not idle:
                    idle.append(Worker(options))
                    workers += idle
                idle.pop().send(*item)
                item = next(numbered, None)
            if turn in done:
                yield done.pop(turn)
                turn += 1
                continue
            busy = {worker.connection: worker for worker in workers if worker not in idle}
            for connection in wait(list(busy)):
                worker = busy[connection]  # type: ignore[index]
                done[worker.number] = worker.receive()
                idle.append(worker)
    finally:
        for worker in workers:
            worker.end()


class Worker:
    """A process that scores a chunk at a time.

    Attributes:
        number: of the chunk that it was sent last.
    """

    def __init__(self, options: Options) -> None:
        self.number = -1
        ensure_running()  # before what follows: starting it would let the signals through again
        self.connection, theirs = SPAWN.Pipe()
        self.process = SPAWN.Process(target=work, args=(theirs, options), daemon=True)
        with held_back():  # it inherits this: Ctrl+C, which a terminal sends to all, is for the parent alone
            self.process.start()
        theirs.close()

    def send(self, number: int, chunk: Chunk) -> None:
        self.number = number
        try:
            self.connection.send(chunk)
        except OSError as error:
            raise killed() from error

    def receive(self) -> Scored:
        """Waits for what the chunk became; raises what the process raised."""
        try:
            found = self.connection.recv()
        except (EOFError, OSError) as error:
            raise killed() from error
        if isinstance(found, Exception):
            raise found
        assert isinstance(found, Scored)
        return found

    def end(self) -> None:
        """Ends the process at once, in the middle of a chunk or not."""
        self.connection.close()
        self.process.kill()
        self.process.join()
        self.process.close()


def killed() -> SettingError:
    return SettingError(
        "A process that scored was killed, perhaps because memory ran out: pass fewer --processes, or split the file."
    )


def work(connection: Connection, options: Options) -> None:
    """Scores what comes, until the parent is gone."""
    while True:
        try:
            connection.send(attempt(connection.recv(), options))
        except (EOFError, OSError):
            return


def attempt(chunk: Chunk, options: Options) -> Scored | Exception:
    """What the chunk became, or the error that it ended with, in a form that can be sent."""
    try:
        return open_scorer(options).score(chunk)
    except AddNormError as error:
        return error
    except Exception:  # not every one of a library can be sent
        return RuntimeError(traceback.format_exc())


@contextmanager
def held_back() -> Iterator[None]:
    """Signals that stop a command wait until this is over."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
