"""Clients that keep a real service busy, and know what became of every request, for tests."""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPException

from tests.service.workers.processes import ROWS, Service, post, wait_until

BODY = json.dumps({"inputs": ROWS})


class Clients:
    """Threads that ask /predict for ROWS all the time, until the block ends.

    Args:
        kept: requests over one connection before another takes its place; None: it is kept until the end.

    Attributes:
        sent: rows that were asked for.
        versions: requests that were answered, by the version that did.
        refusals: status and body of other answers.
        lost: what kept requests from being answered at all, where a connection broke.
    """

    def __init__(self, service: Service, count: int, kept: int | None = None) -> None:
        self.service, self.kept = service, kept
        self.sent, self.versions = 0, Counter[str]()
        self.refusals, self.lost = list[object](), list[Exception]()
        self._lock, self._stopped = threading.Lock(), threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(count)]

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    @property
    def answered(self) -> int:
        """Rows."""
        return len(ROWS) * self.versions.total()

    @property
    def failures(self) -> list[object]:
        return [*self.refusals, *self.lost]

    def counts(self) -> tuple[int, int]:
        """Rows that were sent and that were answered, at one moment."""
        with self._lock:
            return self.sent, self.answered

    def wait_for(self, answers: int, version: str | None = None) -> None:
        """Waits for so many more answers, of `version` where one is given; or for a refusal, which no test expects."""

        def count() -> int:
            with self._lock:
                return self.versions[version] if version else self.versions.total()

        target = count() + answers
        wait_until(lambda: count() >= target or bool(self.refusals))

    def _ask(self) -> None:
        while not self._stopped.is_set():
            with self._losses(), closing(self.service.connect()) as connection:
                self._ask_over(connection)

    def _ask_over(self, connection: HTTPConnection) -> None:
        asked = 0
        while not self._stopped.is_set() and asked != self.kept:
            with self._lock:
                self.sent += len(ROWS)
            status, answer = post(connection, "/predict", BODY)
            asked += 1
            with self._lock:
                if status == 200 and len(answer["predictions"]) == len(ROWS):
                    self.versions[answer["version"]] += 1
                else:
                    self.refusals.append((status, answer))

    @contextmanager
    def _losses(self) -> Iterator[None]:
        try:
            yield
        except (OSError, HTTPException) as error:
            with self._lock:
                self.lost.append(error)
