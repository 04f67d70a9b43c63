"""Broken frames against the gRPC port of a real service, and what the campaign takes for a fault."""

import random
import socket
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from benchmarks.reliability import frames as module
from benchmarks.reliability.__main__ import faults_of
from benchmarks.reliability.frames import (
    TEXTS,
    Ask,
    Target,
    ask_whole,
    attacks_on,
    be_victim,
    check,
    labels_of,
    read_answer,
)
from benchmarks.reliability.http2 import BREAKS, PATH, STREAM_PATH, body, call, frames_of, messages_of, string, wire
from benchmarks.reliability.service import Service, serving
from service.api.v2.grpc.messages import InferResponse, StreamResponse
from tests.ports import free_port


@pytest.fixture(scope="module")
def attacked() -> Iterator[tuple[Service, int]]:
    """A service of the embedded model, and its gRPC port."""
    port = free_port()
    with serving("--workers", "1", "--grpc-port", str(port)) as service:
        yield service, port


def answer(name: str, label: str) -> bytes:
    made = InferResponse(id=name, raw_output_contents=[len(label).to_bytes(4, "little") + label.encode()])
    content: bytes = made.SerializeToString()
    return content


@pytest.mark.parametrize("path", [PATH, STREAM_PATH])
def test_whole_call_is_answered(path: bytes, attacked: tuple[Service, int]):
    service, port = attacked
    target, found = Target(port, labels_of(service)), Counter[str]()
    asked = target.ask_for(random.Random(1))
    with target.connect() as connection:
        ((stream, content),) = messages_of(ask_whole(connection, asked, found, path))
    assert (stream, *read_answer(content)) == (1, asked.name, asked.label)
    assert not +found and len(set(target.labels.values())) == len(target.labels)


def test_broken_frames_harm_nobody(attacked: tuple[Service, int]):
    found = attacks_on(*attacked, 200, seed=3)
    assert found["attacks"] == 200 and found["answers"] > 50 and found["victims answered"] > 20
    assert faults_of("frames", found) == []


@pytest.mark.parametrize(
    ("stream", "message", "faults"),
    [
        (1, answer("a", "one"), []),
        (1, answer("a", "two"), ["wrong pairings"]),
        (1, answer("b", "two"), ["wrong pairings"]),
        (3, answer("a", "one"), ["wrong pairings"]),
        (3, answer("b", "two"), []),
        (3, answer("b", "one"), ["wrong pairings"]),
        (3, answer("c", "one"), ["wrong pairings"]),
        (3, answer("broken", "one"), []),
        (3, StreamResponse(infer_response={"id": "c"}).SerializeToString(), ["wrong pairings"]),
        (3, b"\xff", ["wrong messages"]),
    ],
)
def test_answers_of_others_are_found(stream: int, message: bytes, faults: list[str]):
    found, sent = Counter[str](), b"whole b"
    came = wire([body(stream, message)])
    check(came, Ask("a", "one", b""), Ask("b", "two", sent), sent, Target(0, {}, {"a", "b", "c"}), found)
    assert faults_of("frames", found) == faults


@pytest.mark.parametrize(("closes", "fault"), [(False, "hung after 6 s"), (True, "broken")])
def test_victims_without_an_answer_are_found(closes: bool, fault: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "LONGEST", 0.2)
    found = Counter[str]()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        target = Target(listener.getsockname()[1], dict.fromkeys(TEXTS, "one"))
        with ThreadPoolExecutor(1) as threads:
            asking = threads.submit(be_victim, random.Random(1), target, found)
            with listener.accept()[0]:
                if not closes:
                    asking.result()
            asking.result()
    assert faults_of("frames", found) == [fault] and not found["victims answered"]


@pytest.mark.parametrize("name", BREAKS)
def test_whatever_is_broken_is_sent(name: str):
    """Frames come back as they were sent, unless their length is wrong."""
    for seed in range(20):
        frames = BREAKS[name](random.Random(seed), call(b"message", 3))
        if all(frame.length is None for frame in frames):
            assert list(frames_of(wire(frames))) == list(frames)


def test_long_strings_are_written_as_hpack_has_them():
    assert string(b"a" * 126)[:2] == b"\x7ea" and string(b"a" * 127)[:3] == b"\x7f\0a"
    assert string(b"a" * 1337)[:4] == b"\x7f\xba\x09a"


def test_calls_that_hang_or_end_wrongly_are_faults():
    found = Counter({"hung": 1, "without status": 1, "never answered again": 1, "wrong status CANCELLED": 1})
    assert faults_of("grpc-rolls", found + Counter({"unavailable": 9, "answered": 9})) == list(found)
    assert faults_of("grpc-kills", Counter({"status INTERNAL": 1})) == ["status INTERNAL"]
