"""A floor: the least that a Python server on uvloop can do and still answer. No checks, counts, limits or statistics.

Each request's JSON is parsed, its text is tokenized, and those that came together run in one packed batch, of which it
takes the logits only. What the service takes beyond this is its own; what this takes beyond no server is the wire's and
Python's. It answers correct requests of one connection in turn with one class a text, or with all, and nothing else.
"""

import asyncio
from typing import Any

import numpy as np
import uvloop
from numpy.typing import NDArray
from pydantic_core import from_json, to_json

from benchmarks.serving.peers.classifier import Classifier, load, port
from runtime.graph.packing import PackedBatch, pack

END = b"\r\n\r\n"
STILL_ROUNDS = 3  # of the event loop without a new request, after which a batch runs: as the service's executor
MOST_TOKENS = 512  # of a batch, as the service's
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"


class Batches:
    """What came and is not answered yet."""

    def __init__(self, classifier: Classifier) -> None:
        self.classifier, self.loop = classifier, asyncio.get_running_loop()
        self.waiting: list[tuple[asyncio.Transport, list[Any]]] = []
        self.seen = self.still = 0
        self.labels = [b'{"label":%b,"score":' % to_json(label) for label in classifier.labels]
        self.write = self.best_class

    def add(self, transport: asyncio.Transport, request: dict[str, Any]) -> None:
        encodings = self.classifier.tokenizer.encode_batch_fast(request["inputs"], add_special_tokens=False)
        rows = [np.array(encoding.ids[: self.classifier.max_tokens], dtype=np.int64) for encoding in encodings]
        self.write = self.all_classes if "top_k" in request else self.best_class  # all clients ask for the same
        self.waiting.append((transport, rows))
        if len(self.waiting) == 1:
            self.seen, self.still = 0, 0
            self.loop.call_soon(self.round)

    def round(self) -> None:
        self.still = self.still + 1 if self.seen == len(self.waiting) else 0
        self.seen = len(self.waiting)
        if self.still < STILL_ROUNDS:
            self.loop.call_soon(self.round)
            return
        waiting, self.waiting = self.waiting, []
        for some in cut(waiting):
            self.answer(some)

    def answer(self, waiting: list[tuple[asyncio.Transport, list[Any]]]) -> None:
        batch = pack([row for _, rows in waiting for row in rows])
        (logits,) = self.classifier.session.run(["logits"], feeds(batch))
        parts = self.write(logits)
        start = 0
        for transport, rows in waiting:
            stop = start + len(rows)
            body = b'{"predictions":[%b]}' % b",".join(parts[start:stop])
            transport.write(HEAD % (len(body), body))
            start = stop

    def best_class(self, logits: NDArray[np.float32]) -> list[bytes]:
        best = logits.argmax(1).tolist()
        sums = np.exp(logits - logits.max(1, keepdims=True)).sum(1)
        scores = to_json((1 / sums).astype(float).tolist())[1:-1].split(b",")
        return [b"%b%b}" % (self.labels[label], score) for label, score in zip(best, scores, strict=True)]

    def all_classes(self, logits: NDArray[np.float32]) -> list[bytes]:
        order = np.argsort(-logits, axis=1)
        odds = np.exp(logits - logits.max(1, keepdims=True))
        scores = np.take_along_axis(odds / odds.sum(1, keepdims=True), order, axis=1)
        found = []
        for places, row in zip(order.tolist(), scores.tolist(), strict=True):
            numbers = to_json(row)[1:-1].split(b",")
            parts = [b"%b%b" % (self.labels[place], score) for place, score in zip(places, numbers, strict=True)]
            found.append(b'%b,"top":[%b}]}' % (parts[0], b"},".join(parts)))
        return found


def cut(waiting: list[tuple[asyncio.Transport, list[Any]]]) -> list[list[tuple[asyncio.Transport, list[Any]]]]:
    """Groups of requests, in order, of at most MOST_TOKENS where they are not single ones."""
    groups: list[list[tuple[asyncio.Transport, list[Any]]]] = [[]]
    tokens = 0
    for request in waiting:
        length = sum(map(len, request[1]))
        if groups[-1] and tokens + length > MOST_TOKENS:
            groups.append([])
            tokens = 0
        groups[-1].append(request)
        tokens += length
    return groups


def feeds(batch: PackedBatch) -> dict[str, Any]:
    return {
        "input_ids": batch.values,
        "position_ids": batch.position_ids,
        "segment_ids": batch.segment_ids,
        "pooling": batch.pooling,
    }


class Connection(asyncio.Protocol):
    """One connection: a request comes in one piece or several, the next after its answer."""

    def __init__(self, batches: Batches) -> None:
        self.batches, self.received = batches, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, end, body = self.received.partition(END)
        lengths = [line[15:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        if end and len(body) >= int(lengths[0] if lengths else 0):
            self.received = b""
            self.batches.add(self.transport, from_json(body))


async def serve() -> None:
    batches = Batches(load())
    server = await asyncio.get_running_loop().create_server(lambda: Connection(batches), "127.0.0.1", port())
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve())
