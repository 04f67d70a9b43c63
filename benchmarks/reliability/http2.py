"""gRPC calls as frames of HTTP/2: made, broken, and their answers read; a library of gRPC would keep them whole."""

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS = 1, 4
FORGED = b"forged by a client"  # what would be a line of the log if what a GOAWAY says were written as it is
WINDOW = b"\0\4"  # the setting of how many bytes a stream may send
PATH, STREAM_PATH = (b"/inference.GRPCInferenceService/Model%bInfer" % kind for kind in (b"", b"Stream"))
FIELDS = {
    b":method": b"POST", b":scheme": b"http", b":path": PATH, b":authority": b"127.0.0.1", b"te": b"trailers",
    b"content-type": b"application/grpc",
}  # fmt: skip
WRONG_FIELDS: tuple[dict[bytes, bytes], ...] = (
    {b":path": b"/"}, {b":path": b"\xff\0"}, {b":path": PATH + b"r"}, {b":path": b""}, {b":method": b"GET"},
    {b":method": b"\0"}, {b":scheme": b"ftp"}, {b":status": b"200"}, {b"content-type": b"text/html"}, {b"te": b""},
    {b"UPPER": b"x"}, {b"": b""}, {b"x-bin": b"%%%"}, {b"x": b"\xff\n"}, {b"grpc-timeout": b"1n"},
    {b"grpc-timeout": b"99999999H"}, {b"grpc-timeout": b"-1S"}, {b"grpc-encoding": b"x"}, {b"x-api-key": b"\xff"},
    {b"x-request-id": b"\xc3\xa4" * 99}, {b"traceparent": b"\xff"},
)  # fmt: skip


class Frame(NamedTuple):
    """A frame, whose length is its payload's unless it is to be wrong."""

    kind: int
    flags: int
    stream: int
    payload: bytes = b""
    length: int | None = None

    def wire(self) -> bytes:
        length = len(self.payload) if self.length is None else self.length
        start = length.to_bytes(3, "big") + bytes((self.kind, self.flags)) + self.stream.to_bytes(4, "big")
        return start + self.payload


class Whole(NamedTuple):
    """The frames of a call, none of which is broken."""

    head: Frame
    body: Frame

    @property
    def stream(self) -> int:
        return self.head.stream

    @property
    def message(self) -> bytes:
        return self.body.payload[5:]


OPENING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + Frame(SETTINGS, 0, 0).wire()
Break = Callable[[random.Random, Whole], Sequence[Frame]]


def wire(frames: Sequence[Frame]) -> bytes:
    return b"".join(frame.wire() for frame in frames)


def string(content: bytes) -> bytes:
    """A string in HPACK, without Huffman's code."""
    if (left := len(content) - 127) < 0:
        return bytes((len(content),)) + content
    size = bytearray((127,))
    while left >= 128:
        size.append(left % 128 + 128)
        left //= 128
    return bytes((*size, left)) + content


def head(stream: int, changed: dict[bytes, bytes]) -> Frame:
    """HEADERS whose fields are literals, which no table keeps."""
    block = b"".join(b"\0" + string(name) + string(value) for name, value in (FIELDS | changed).items())
    return Frame(HEADERS, END_HEADERS, stream, block)


def body(stream: int, message: bytes, size: int | None = None, compressed: int = 0) -> Frame:
    """DATA: a message behind a flag and its length."""
    length = len(message) if size is None else size
    return Frame(DATA, END_STREAM, stream, bytes((compressed,)) + length.to_bytes(4, "big") + message)


def call(message: bytes, stream: int = 1, path: bytes = PATH) -> Whole:
    return Whole(head(stream, {b":path": path}), body(stream, message))


def flip(rng: random.Random, content: bytes) -> bytes:
    """Some bytes become others."""
    changed = bytearray(content)
    for _ in range(rng.randrange(1, 5)):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def value(rng: random.Random, size: int) -> int:
    """A number at whose edges programs err, or any of so many bytes."""
    most = (1 << 8 * size) - 1
    return rng.choice([0, 1, 100, most, most >> 1, rng.randint(0, most)])


def one(rng: random.Random, whole: Whole, **changed: Any) -> list[Frame]:
    """One of the frames is changed."""
    frames: list[Frame] = list(whole)
    at = rng.randrange(len(frames))
    frames[at] = frames[at]._replace(**changed)
    return frames


def new_head(rng: random.Random, whole: Whole) -> list[Frame]:
    return [head(whole.stream, rng.choice(WRONG_FIELDS)), whole.body]


def new_body(whole: Whole, message: bytes, size: int | None = None, compressed: int = 0) -> list[Frame]:
    return [whole.head, body(whole.stream, message, size, compressed)]


def split(rng: random.Random, whole: Whole, ended: bool) -> list[Frame]:
    """HEADERS of up to 300 KB with CONTINUATIONs, which end or do not."""
    extra = {b"x-%d" % n: b"a" * 3000 for n in range(rng.choice([1, 5, 20, 100]))}
    block = head(whole.stream, extra).payload
    parts = [block[at : at + 16_000] for at in range(0, len(block), 16_000)] + [b""] * rng.choice([1, 50])
    made = [Frame(CONTINUATION if at else HEADERS, 0, whole.stream, part) for at, part in enumerate(parts)]
    return [*made[:-1], made[-1]._replace(flags=END_HEADERS * ended), whole.body]


def rapid(rng: random.Random, whole: Whole) -> list[Frame]:
    """Streams that are reset as soon as they are asked for: after HEADERS, or after DATA."""
    sent = (*whole[: rng.choice([1, 2])], Frame(RST_STREAM, 0, 0, bytes((0, 0, 0, rng.randrange(14)))))
    streams = range(whole.stream, whole.stream + 2 * rng.choice([1, 10, 100]), 2)
    return [each._replace(stream=stream) for stream in streams for each in sent]


def windows(rng: random.Random, whole: Whole) -> list[Frame]:
    """Windows that grow beyond what there may be, or by nothing."""
    grown = Frame(WINDOW_UPDATE, 0, rng.choice([0, whole.stream]), value(rng, 4).to_bytes(4, "big"))
    return [*whole, *[grown] * rng.randrange(1, 9)]


def settings(rng: random.Random, whole: Whole) -> list[Frame]:
    made = [
        bytes((0, rng.randrange(1, 8))) + value(rng, 4).to_bytes(4, "big") for _ in range(rng.choice([1, 100, 999]))
    ]
    return [*[Frame(SETTINGS, 0, 0, each) for each in made], *whole]


BREAKS: dict[str, Break] = {
    "nothing": lambda _, whole: whole,
    "all again": lambda rng, whole: [*whole] * rng.randrange(2, 5),
    "headers again": lambda _, whole: [whole.head, *whole],
    "data again": lambda rng, whole: [whole.head, *[whole.body._replace(flags=rng.randrange(2))] * 3, whole.body],
    "length": lambda rng, whole: one(rng, whole, length=rng.choice([value(rng, 3), rng.randrange(500)])),
    "stream": lambda rng, whole: one(rng, whole, stream=rng.choice([value(rng, 4), rng.randrange(9)])),
    "kind": lambda rng, whole: one(rng, whole, kind=rng.randrange(256)),
    "flags": lambda rng, whole: one(rng, whole, flags=rng.randrange(256)),
    "payload": lambda rng, whole: one(rng, whole, payload=rng.randbytes(rng.randrange(200))),
    "unknown": lambda rng, whole: [Frame(rng.randrange(10, 256), rng.randrange(256), 0, b"x" * 99), *whole],
    "goaway": lambda rng, whole: [Frame(GOAWAY, 0, 0, bytes(7) + bytes((rng.randrange(14),)) + b"\n" + FORGED), *whole],
    "data first": lambda _, whole: whole[::-1],
    "no end of headers": lambda rng, whole: split(rng, whole, False),
    "huge headers": lambda rng, whole: split(rng, whole, True),
    "rapid resets": rapid,
    "windows": windows,
    "closed window": lambda _, whole: [Frame(SETTINGS, 0, 0, WINDOW + bytes(4)), *whole],
    "fields": new_head,
    "size": lambda rng, whole: new_body(whole, whole.message, rng.choice([value(rng, 4), rng.randrange(200)])),
    "compressed": lambda rng, whole: new_body(whole, whole.message, compressed=rng.choice([1, rng.randrange(2, 256)])),
    "message": lambda rng, whole: new_body(whole, flip(rng, whole.message)),
    "empty message": lambda _, whole: new_body(whole, b""),
    "no message": lambda _, whole: [whole.head, whole.body._replace(payload=b"")],
    "half-open": lambda rng, whole: [whole.head, whole.body._replace(flags=0)][: rng.choice([1, 2])],
    "half a message": lambda _, whole: [whole.head, whole.body._replace(flags=0, payload=whole.body.payload[:20])],
    "pings": lambda rng, whole: [*[Frame(PING, 0, 0, bytes(8))] * rng.choice([1, 100, 999]), *whole],
    "settings": settings,
}


def frames_of(came: bytes) -> Iterator[Frame]:
    """The whole frames in what came back."""
    at = 0
    while at + 9 <= len(came) and (end := at + 9 + int.from_bytes(came[at : at + 3], "big")) <= len(came):
        yield Frame(came[at + 3], came[at + 4], int.from_bytes(came[at + 5 : at + 9], "big"), came[at + 9 : end])
        at = end


def messages_of(came: bytes) -> Iterator[tuple[int, bytes]]:
    """The messages that came back, each with its stream."""
    streams = defaultdict[int, bytes](bytes)
    for frame in frames_of(came):
        if frame.kind == DATA:
            streams[frame.stream] += frame.payload
    for stream, content in streams.items():
        while len(content) >= 5 and len(content) >= (size := 5 + int.from_bytes(content[1:5], "big")):
            yield stream, content[5:size]
            content = content[size:]


def is_over(came: bytes, stream: int) -> bool:
    """Whether nothing more comes on a stream."""
    return any(
        each.stream == stream
        and (each.kind == RST_STREAM or (each.kind in (HEADERS, DATA) and each.flags & END_STREAM))
        for each in frames_of(came)
    )
