"""Broken HTTP/2 frames against the gRPC port of a service: are other calls answered, and is nothing left?

An attack is a connection with a call that is broken somewhere, often behind a whole one. Beside the attackers run
victims, whose calls are whole, each over a connection of its own: they must get their own answers, and in time.
"""

import json
import random
import re
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from benchmarks.reliability.http2 import (
    BREAKS,
    FORGED,
    OPENING,
    PATH,
    STREAM_PATH,
    call,
    flip,
    is_over,
    messages_of,
    wire,
)
from benchmarks.reliability.proxy import free_port
from benchmarks.reliability.service import Service, serving
from benchmarks.reliability.streams import RESET
from service.api.v2.grpc.messages import InferRequest, InferResponse, StreamResponse

ATTACKERS, VICTIMS = 4, 2
QUIET = 0.1  # seconds without a byte after which an attack is taken as answered
PAUSE = 0.02  # seconds between two calls of a victim
LONGEST = 6.0  # seconds in which a whole call is to be answered
TEXTS = (
    "what is my account balance", "will it rain", "set an alarm for six", "tell me a joke", "play some music",
    "how do i change my pin", "book a flight to paris", "what time is it",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ask:
    """A request, and what its answer must bear."""

    name: str
    label: str
    message: bytes

    def is_whole_in(self, sent: bytes) -> bool:
        """Whether its id was sent with its text only."""
        return sent.count(self.message) == sent.count(self.name.encode())


@dataclass(frozen=True, slots=True)
class Target:
    """The port that is attacked, the label of each text, and the ids of all requests."""

    port: int
    labels: dict[str, str]
    names: set[str] = field(default_factory=set)

    def ask_for(self, rng: random.Random) -> Ask:
        text, name = rng.choice(TEXTS), f"{rng.getrandbits(64):016x}"
        made = InferRequest(id=name, raw_input_contents=[len(text).to_bytes(4, "little") + text.encode()])
        made.inputs.add(name="text", datatype="BYTES", shape=[1])
        made.outputs.add(name="label")
        self.names.add(name)
        return Ask(name, self.labels[text], made.SerializeToString())

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), LONGEST)


def read_answer(content: bytes) -> tuple[str, str]:
    """Id and label of an answer; a stream's lies in a message of its own, and what is refused has no label.

    Raises:
        DecodeError: it is no answer.
    """
    answer = None
    with suppress(DecodeError):
        answer = InferResponse.FromString(content)
    if answer is None or not answer.id:
        answer = StreamResponse.FromString(content).infer_response
    return answer.id, answer.raw_output_contents[0][4:].decode() if answer.raw_output_contents else ""


def check(came: bytes, first: Ask | None, then: Ask, sent: bytes, target: Target, found: Counter[str]) -> None:
    """Counts answers, and those that are another request's: `first` was whole, on stream 1, and `then` broken."""
    for stream, content in messages_of(came):
        try:
            name, label = read_answer(content)
        except DecodeError:
            found["wrong messages"] += 1
            continue
        found["answers"] += bool(label)
        if first is not None and (stream == 1 or name == first.name):
            found["wrong pairings"] += (stream, name, label) != (1, first.name, first.label)
        elif name != then.name:
            found["wrong pairings"] += name in target.names
        elif label and then.is_whole_in(sent):
            found["wrong pairings"] += label != then.label


def listen(connection: socket.socket) -> bytes:
    """What comes until nothing does for a while."""
    came = b""
    connection.settimeout(QUIET)
    with suppress(OSError):
        while chunk := connection.recv(1 << 16):
            came += chunk
    return came


def ask_whole(connection: socket.socket, asked: Ask, found: Counter[str], path: bytes = PATH) -> bytes:
    """Makes a call that is whole, on stream 1; gives what came, and counts it where it is not the answer."""
    came, deadline = b"", time.monotonic() + LONGEST
    try:
        connection.sendall(OPENING + wire(call(asked.message, path=path)))
        while not is_over(came, 1):
            connection.settimeout(max(deadline - time.monotonic(), 0.001))
            if not (chunk := connection.recv(1 << 16)):
                break
            came += chunk
    except TimeoutError:
        found["hung after 6 s"] += 1
        return b""
    except OSError:
        pass
    found["broken"] += not any(stream == 1 for stream, _ in messages_of(came))
    return came


def attack(rng: random.Random, target: Target, found: Counter[str]) -> None:
    """Breaks a call, often behind a whole one, whose answer is waited for or not."""
    first = target.ask_for(rng) if rng.random() < 0.4 else None
    then, path = target.ask_for(rng), rng.choice([PATH, PATH, STREAM_PATH])
    sent = wire(rng.choice(list(BREAKS.values()))(rng, call(then.message, 1 if first is None else 3, path)))
    waits, end = rng.random() < 0.5, rng.choice(["silence", "silence", "half-close", "close", "reset"])
    if first is None:
        sent = OPENING + sent
    how = rng.randrange(6)
    if how == 0:
        sent = flip(rng, sent)
    elif how == 1:
        sent = sent[: rng.randrange(len(sent))]
    if first is not None and not waits:
        sent = OPENING + wire(call(first.message)) + sent
    with target.connect() as connection:
        came = b""
        if end == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        if first is not None and waits:
            came = ask_whole(connection, first, found)
        with suppress(OSError):
            connection.settimeout(LONGEST)
            connection.sendall(sent)
            if end == "half-close":
                connection.shutdown(socket.SHUT_WR)
            if end in ("silence", "half-close"):
                came += listen(connection)
            else:
                time.sleep(rng.choice([0.0, 0.002, 0.02]))
    check(came, first, then, sent, target, found)


def be_victim(rng: random.Random, target: Target, found: Counter[str]) -> None:
    """Makes a whole call over a connection of its own."""
    asked = target.ask_for(rng)
    try:
        with target.connect() as connection:
            came = ask_whole(connection, asked, found)
    except OSError as error:  # it cannot connect
        found["hung after 6 s" if isinstance(error, TimeoutError) else "broken"] += 1
        return
    wrong = found["wrong pairings"]
    check(came, asked, asked, b"", target, found)
    found["victims answered"] += bool(list(messages_of(came))) and found["wrong pairings"] == wrong


def run(target: Target, count: int, seed: int) -> Counter[str]:
    """Attacks so often, in several threads, while victims ask; counts what came of it."""
    waiting, ended = iter(range(count)), threading.Event()

    def attacks(_: int) -> Counter[str]:
        found = Counter[str]()
        for number in waiting:
            try:
                attack(random.Random(seed * 1_000_003 + number), target, found)
            except OSError:  # it cannot connect
                found["broken"] += 1
            found["attacks"] += 1
        return found

    def asks(number: int) -> Counter[str]:
        found, rng = Counter[str](), random.Random(f"victim {seed} {number}")
        last = False
        while not last:
            last = ended.wait(PAUSE)
            be_victim(rng, target, found)
        return found

    with ThreadPoolExecutor(ATTACKERS + VICTIMS) as threads:
        asking = [threads.submit(asks, number) for number in range(VICTIMS)]
        try:
            found = sum(threads.map(attacks, range(ATTACKERS)), Counter[str]())
        finally:
            ended.set()
        return sum((each.result() for each in asking), found)


def written(service: Service, pattern: str) -> int:
    """How often the log has it; what clients send may be no UTF-8, and grpc may write it as it is."""
    return len(re.findall(pattern, service.log.read_text(errors="replace"), re.M))


def tracebacks(service: Service) -> int:
    """Tracebacks in the log, and what grpc says of errors that it caught."""
    return written(service, r"Traceback \(most recent call last\)|\bgrpc\b.*Exception")


def labels_of(service: Service) -> dict[str, str]:
    """The label of each text, as HTTP tells it."""
    answer = service.ask("/predict", json.dumps({"inputs": TEXTS}).encode())
    return {text: each["label"] for text, each in zip(TEXTS, answer["predictions"], strict=True)}


def attacks_on(service: Service, port: int, count: int, seed: int) -> Counter[str]:
    """Attacks a service; counts what came of it, and what is left."""
    found = run(Target(port, labels_of(service)), count, seed)
    found["left in flight"] = service.settle(12)
    found["tracebacks"] = tracebacks(service)
    found["forged lines"] = written(service, f"^{FORGED.decode()}")
    return found


def frames(count: int = 10_000, seed: int = 1) -> Counter[str]:
    """Makes `count` attacks on one worker; counts what came of them."""
    port = free_port()
    with serving("--workers", "1", "--grpc-port", str(port)) as service:
        return attacks_on(service, port, count, seed)
