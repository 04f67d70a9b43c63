"""Mutated streams of bytes against a service: is every answer the answer to its own request, and is nothing left?

A stream holds one to six requests, each with an id that its answer must bear, and a number of inputs that it must have
as many predictions or embeddings as. Bytes of it are changed, taken out, put in and doubled; it is cut into pieces; its
end is a close, a reset or silence.
"""

import asyncio
import json
import random
import socket
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import httptools

from benchmarks.reliability.service import serving

CONCURRENT = 40
QUIET = 0.5  # seconds without a byte after which a stream is taken as answered
RESET = b"\1\0\0\0\0\0\0\0"  # struct linger: its end is a reset


@dataclass(slots=True)
class Answers:
    """What a parser finds in the bytes that came back."""

    statuses: list[int] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    def on_message_begin(self) -> None:
        self.ids.append("")
        self.bodies.append(b"")

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"x-request-id":
            self.ids[-1] = value.decode()

    def on_body(self, body: bytes) -> None:
        self.bodies[-1] += body


def request(rng: random.Random, name: str, rows: int) -> bytes:
    """One of several kinds, that gives its id and asks for `rows` predictions or embeddings."""
    body = json.dumps({"inputs": ["hi"] * rows}).encode()
    path = rng.choice([b"/predict", b"/embed", b"/predict?way=long", b"/embed?way=long"])
    head = b"POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Request-ID: %s\r\n" % (path, name.encode())
    kind = rng.randrange(8)
    if kind == 0:
        cut = rng.randrange(len(body))
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:cut], body[cut:]) if part)
        return head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    if kind == 1:
        return b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Request-ID: %s\r\n\r\n" % name.encode()
    extra = {
        2: b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
        3: b"Expect: 100-continue\r\n",
        4: b"Connection: keep-alive\r\n",
    }.get(kind, b"")
    return head + extra + b"Content-Length: %d\r\n\r\n" % len(body) + body


def mutate(rng: random.Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(changed))
        how = rng.randrange(4)
        if how == 0:
            changed[at] = rng.randrange(256)
        elif how == 1:
            del changed[at : at + rng.randrange(1, 9)]
        elif how == 2:
            changed[at:at] = rng.choice([b"\r\n", b"\0", b":", b" ", b"\r\n\r\n", b"GET / HTTP/1.1\r\n", b"0"])
        else:
            changed[at:at] = changed[at : at + rng.randrange(1, 40)]
        if not changed:
            break
    return bytes(changed)


def pieces(rng: random.Random, content: bytes) -> list[bytes]:
    cuts = sorted(rng.choices(range(len(content) + 1), k=rng.randrange(6)))
    return [content[start:end] for start, end in zip([0, *cuts], [*cuts, len(content)], strict=True) if end > start]


async def play(port: int, parts: Sequence[bytes], end: str) -> bytes:
    """Sends a stream; gives what came back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    came = b""
    try:
        for part in parts:
            writer.write(part)
            await asyncio.sleep(0)
        if end == "reset":
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort()
            return b""
        if end == "close":
            return b""
        while chunk := await asyncio.wait_for(reader.read(1 << 16), QUIET):
            came += chunk
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.close()
    return came


def check(came: bytes, asked: dict[str, int], mutated: bool, found: Counter[str]) -> None:
    """Counts answers, server errors, and answers that are another request's."""
    answers = Answers()
    parser = httptools.HttpResponseParser(answers)
    names = list(asked)
    try:
        parts = came.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
        for part in parts.split(b"HTTP/1.1 ")[1:]:
            answers.statuses.append(int(part[:3]))
        parser.feed_data(parts)
    except httptools.HttpParserError:
        found["answers that are no HTTP"] += 1
    found["answers"] += len(answers.statuses)
    found["5xx"] += sum(status >= 500 for status in answers.statuses)
    known = [name for name in answers.ids if name in asked]
    if known != sorted(set(known), key=names.index):
        found["wrong pairings"] += 1
    for name, status, body in zip(answers.ids, answers.statuses, answers.bodies, strict=False):
        if not mutated and status == 200 and (b"predictions" in body or b"embeddings" in body):
            (rows,) = (value for value in json.loads(body).values() if isinstance(value, list))
            found["wrong pairings"] += len(rows) != asked.get(name, -1)
    if not mutated and [status for status in answers.statuses if status != 200]:
        found["whole streams refused"] += 1
    foreign = [name for name in answers.ids if name and name not in asked and name.startswith("stream-")]
    found["wrong pairings"] += 0 if mutated else len(foreign)


async def run(port: int, count: int, seed: int) -> Counter[str]:
    found, waiting = Counter[str](), iter(range(count))

    async def work() -> None:
        for number in waiting:
            rng = random.Random(seed * 1_000_003 + number)
            asked = {f"stream-{number}-{n}": rng.randrange(1, 5) for n in range(rng.randrange(1, 7))}
            content = b"".join(request(rng, name, rows) for name, rows in asked.items())
            mutated, end = rng.random() < 0.45, rng.choices(["wait", "close", "reset"], [8, 1, 1])[0]
            content = mutate(rng, content) if mutated else content
            check(await play(port, pieces(rng, content), end), asked, mutated, found)
            found["streams"] += 1

    await asyncio.gather(*(work() for _ in range(CONCURRENT)))
    return found


def streams(count: int = 3000, seed: int = 1) -> Counter[str]:
    """Plays `count` streams against one worker; counts what came of them."""
    with serving("--workers", "1") as service:
        found = asyncio.run(run(service.port, count, seed))
        found["left in flight"] = service.settle(12)
        found["tracebacks"] = service.tracebacks
    return found
