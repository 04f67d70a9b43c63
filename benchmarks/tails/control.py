"""A server that takes as long as this service for each request and batch, and does nothing else.

    python -m benchmarks.tails.control --lengths FILE --port PORT --batch S --row S --token S --read S

It reads the same requests on the same event loop (uvloop) and forms batches by the service's own Batcher. In the place
of tokenizer, graph and answers it keeps its core busy: for `read` seconds when a request comes, and for
batch + row * rows + token * tokens when a batch runs. These are fitted to a trace of the service, and `read` is chosen
so that both have the same capacity (benchmarks/tails/__main__.py). So half of capacity is half for both, and both have
about the same median: were the control faster, a pause of the machine would be more of its median than of ours, and
the comparison would flatter the service.

It does not run the graph: that allocates memory and has slow runs of its own, and those are the service's. It does not
sleep either, and does not watch a clock: it does a fixed amount of work, which takes longer where others use the core,
as the service's does. It collects no garbage.
"""

import asyncio
import gc
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import uvloop
from numpy.typing import NDArray
from pydantic import Field
from pydantic_settings import BaseSettings, CliApp

from runtime.errors import Overloaded
from runtime.options import option_config
from service.batching.batcher import Batcher
from service.sockets import BACKLOG

END = b"\r\n\r\n"
LENGTH = b"\r\ncontent-length:"
STATUS = {200: b"200 OK", 400: b"400 Bad Request", 429: b"429 Too Many Requests", 500: b"500 Internal Server Error"}
KEPT = 90  # percent of the batches with the smallest residuals, that the times are fitted to
FITS = 4
SPIN, SPINS = 20_000, 50  # turns of a loop, about .2 ms; how often it is timed


@dataclass(frozen=True, slots=True)
class Times:
    """What the service takes, in seconds.

    Attributes:
        batch, row, token: of a batch: what each takes, and more for each row and for each token.
        read: of a request, outside batches.
    """

    batch: float
    row: float
    token: float
    read: float = 0.0

    def seconds(self, rows: int, tokens: int) -> float:
        """Of a batch."""
        return max(0.0, self.batch + self.row * rows + self.token * tokens)


def fit_times(rows: NDArray[np.float64], tokens: NDArray[np.float64], seconds: NDArray[np.float64]) -> Times:
    """Least squares over what most batches took: those that were held up are left out, for they are what is sought.

    Args:
        rows, tokens, seconds: of each batch [N].
    """
    table = np.stack([np.ones(len(rows)), rows, tokens], axis=1)
    kept = np.ones(len(rows), dtype=bool)
    for _ in range(FITS):
        found = np.linalg.lstsq(table[kept], seconds[kept], rcond=None)[0]
        residuals = np.abs(seconds - table @ found)
        kept = residuals <= np.percentile(residuals, KEPT)
    return Times(*map(float, found))


def spin(turns: int) -> None:
    for _ in repeat(None, turns):
        pass


def spin_rate() -> float:
    """Turns of `spin` per second, where nothing disturbs it."""
    fastest = float("inf")
    for _ in range(SPINS):
        started = time.perf_counter()
        spin(SPIN)
        fastest = min(fastest, time.perf_counter() - started)
    return SPIN / fastest


class Ran:
    """What the batcher gets for a batch: no numbers."""

    def __init__(self, computed_tokens: int) -> None:
        self.computed_tokens = computed_tokens

    def split(self, counts: Sequence[int]) -> list["Ran"]:
        return [self] * len(counts)


class Control:
    """What all connections share.

    Args:
        lengths: tokens of the text in each request body.
        answer_bytes: size of a response's body.
        rate: turns of `spin` per second.
    """

    def __init__(
        self, times: Times, lengths: dict[bytes, int], max_batch_tokens: int, answer_bytes: int, rate: float
    ) -> None:
        self.times, self.lengths, self.rate = times, lengths, rate
        self.answer = response(200, b'"' + b"a" * (answer_bytes - 2) + b'"')
        self.batcher = Batcher(self.run, max_batch_tokens=max_batch_tokens, max_queue_tokens=32 * max_batch_tokens)

    def run(self, sequences: Sequence[Any]) -> Any:
        tokens = sum(map(len, sequences))
        spin(int(self.rate * self.times.seconds(len(sequences), tokens)))
        return Ran(tokens)

    def read(self) -> None:
        spin(int(self.rate * self.times.read))


def response(status: int, body: bytes) -> bytes:
    head = b"HTTP/1.1 %b\r\nx-content-type-options: nosniff\r\ncontent-type: application/json\r\n" % STATUS[status]
    return b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body)


class Connection(asyncio.Protocol):
    """One connection, and the batcher's receiver of its only request: clients wait for an answer before they go on."""

    def __init__(self, control: Control) -> None:
        self.control, self.received, self.waits = control, b"", False
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.waits = False

    def data_received(self, data: bytes) -> None:
        self.received += data
        if (end := self.received.find(END)) < 0:
            return
        head, start = self.received[:end], end + len(END)
        at = head.lower().find(LENGTH)
        length = int(head[at + len(LENGTH) :].partition(b"\r\n")[0]) if at >= 0 else 0
        if len(self.received) >= start + length:
            body, self.received = self.received[start : start + length], b""
            self.answer(head, body)

    def answer(self, head: bytes, body: bytes) -> None:
        """A POST waits for its batch; whatever else is asked is answered at once."""
        control = self.control
        if not head.startswith(b"POST"):
            self.transport.write(control.answer)
        elif (tokens := control.lengths.get(body)) is None:
            self.transport.write(response(400, b'"unknown body"'))
        else:
            control.read()
            self.waits = True
            try:
                control.batcher.admit([range(tokens)], self)  # type: ignore[list-item]
            except Overloaded:
                self._end(response(429, b'""'))

    def done(self) -> bool:
        return not self.waits

    def set_result(self, _: object) -> None:
        self._end(self.control.answer)

    def set_exception(self, _: Exception) -> None:
        self._end(response(500, b'""'))

    def _end(self, answer: bytes) -> None:
        self.waits = False
        self.transport.write(answer)


class Options(BaseSettings):
    """Serves the control."""

    model_config = option_config("python -m benchmarks.tails.control")

    lengths: Path
    """JSON: the tokens of the text in each request body."""
    port: int = Field(ge=1, le=65535)
    """TCP port to listen on."""
    batch: float = Field(ge=-1, le=1)
    """Seconds of each batch."""
    row: float = Field(ge=-1, le=1)
    """Seconds more for each of its rows."""
    token: float = Field(ge=-1, le=1)
    """Seconds more for each of its tokens."""
    read: float = Field(0.0, ge=0, le=1)
    """Seconds of each request outside batches."""
    max_batch_tokens: int = Field(512, ge=1)
    """Maximum number of tokens in a batch."""
    answer_bytes: int = Field(150, ge=2)
    """Size of a response's body."""

    def cli_cmd(self) -> None:
        gc.disable()
        lengths = {body.encode(): tokens for body, tokens in json.loads(self.lengths.read_text()).items()}
        times = Times(self.batch, self.row, self.token, self.read)
        uvloop.run(serve(Control(times, lengths, self.max_batch_tokens, self.answer_bytes, spin_rate()), self.port))


async def serve(control: Control, port: int) -> None:
    """Until a signal ends the process."""
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(control), "127.0.0.1", port, backlog=BACKLOG
    )
    await server.serve_forever()


if __name__ == "__main__":
    CliApp.run(Options)
