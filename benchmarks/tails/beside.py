"""What is asked of a server beside predictions, by one more client: scrapes, reports, and loads of models.

    python -m benchmarks.tails.beside PORT 1:GET:/metrics 3:POST:/v2/repository/models/NAME/unload ...

Each of these is a period in seconds, a method and a path; several paths, separated by commas, are asked in turn.
"""

import http.client
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle

TIMEOUT = 30  # seconds
STARTING = 0.5  # seconds that the client has to start, before what is measured begins


@dataclass(frozen=True, slots=True)
class Ask:
    """A question that is asked again and again.

    Attributes:
        period: seconds between two.
        paths: asked in turn.
    """

    period: float
    method: str
    paths: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.period:g}:{self.method}:{','.join(self.paths)}"

    @classmethod
    def parse(cls, text: str) -> "Ask":
        period, method, paths = text.split(":", 2)
        return cls(float(period), method, tuple(paths.split(",")))


SCRAPES = (Ask(1.0, "GET", ("/metrics",)), Ask(1.0, "GET", ("/norm-stats",)))
HISTORY = Ask(2.0, "GET", ("/norm-stats/history?window=1h",))


def loads(model: str) -> Ask:
    """Unloads a model and loads it again."""
    path = f"/v2/repository/models/{model}"
    return Ask(1.5, "POST", (f"{path}/unload", f"{path}/load"))


def schedule(asks: Sequence[Ask], seconds: float) -> Iterator[tuple[float, str, str]]:
    """When, by which method and for which path is asked within so many seconds; spread over the first period."""
    paths = [cycle(ask.paths) for ask in asks]
    due = [ask.period * (number + 1) / (len(asks) + 1) for number, ask in enumerate(asks)]
    while min(due) < seconds:
        place = due.index(min(due))
        yield due[place], asks[place].method, next(paths[place])
        due[place] += asks[place].period


def ask(port: int, method: str, path: str) -> None:
    """Raises HTTPException unless the answer is a good one."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    if response.status >= 400:
        raise http.client.HTTPException(f"{method} {path} got status {response.status}: {content[:300]!r}")


@contextmanager
def asked(port: int, asks: Sequence[Ask]) -> Iterator[None]:
    """Asks meanwhile, from this process's cores.

    Raises:
        RuntimeError: the server did not answer one of them well.
    """
    if not asks:
        yield
        return
    command = [sys.executable, "-m", "benchmarks.tails.beside", str(port), *map(str, asks)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as client:
        try:
            time.sleep(STARTING)
            yield
            failed = client.poll() is not None
        finally:
            client.terminate()
        if failed:
            raise RuntimeError(f"{' '.join(command)} ended: {client.stderr.read() if client.stderr else ''}")


def main(port: int, asks: Sequence[Ask]) -> None:
    """Until a signal ends it."""
    started = time.monotonic()
    for due, method, path in schedule(asks, float("inf")):
        time.sleep(max(0.0, started + due - time.monotonic()))
        ask(port, method, path)


if __name__ == "__main__":
    main(int(sys.argv[1]), [Ask.parse(text) for text in sys.argv[2:]])
