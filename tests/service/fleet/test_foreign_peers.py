"""A peer that gives something absurd, or never ends, is named; what the others tell counts."""

import http.server
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from runtime.artifact import Artifact
from runtime.store.shares import LENGTH, WHOLE, Published, Replica, Share
from service.fleet import peers as module
from service.fleet.peers import Peers

Send = Callable[[http.server.BaseHTTPRequestHandler], None]


def packed(number: int, who: str = "other") -> bytes:
    share = Share("window-10", number, WHOLE, 5, b"x")
    return Published(Replica(who, "host:8000", 1.0, sequence=5), time.time(), [share]).pack()


def altered(old: bytes, new: bytes) -> bytes:
    """An answer whose head says something else."""
    body = packed(now())[LENGTH.size :]
    head = body[:-1].replace(old, new)
    assert head != body[:-1]
    return LENGTH.pack(len(head)) + head + body[-1:]


def now() -> int:
    return int(time.time() // 10)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn that waits for all answers."""
    monkeypatch.setattr(module, "MOMENT", 10.0)


@contextmanager
def listening(send: Send) -> Iterator[str]:
    """The address of a service that answers so."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            send(self)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def content(body: bytes, length: bool = True) -> Send:
    def send(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        if length:
            request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    return send


def drip(head: bytes) -> Send:
    """What begins so and goes on byte by byte, each in time."""

    def send(request: http.server.BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"HTTP/1.1 200 OK\r\n" + head)
        try:
            for _ in range(200):
                request.wfile.write(b"x")
                time.sleep(0.02)
        except OSError:  # whom it answers has had enough
            return

    return send


@contextmanager
def asking(*sends: Send) -> Iterator[Peers]:
    with ExitStack() as stack:
        peers = Peers(",".join(stack.enter_context(listening(send)) for send in sends))
        yield peers
        peers.close()


NESTED = b"[" * 200_000


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (LENGTH.pack(len(NESTED)) + NESTED, "gives no statistics of format 1"),
        (altered(b'"sequence":5', b'"sequence":Infinity'), "gives no statistics of format 1"),
        (altered(b'"since":1.0', b'"since":NaN'), "gives no statistics of format 1"),
        (altered(b'"whole"', b'"other"'), "gives no statistics of format 1"),
    ],
)
def test_absurd_answer_ends_only_its_own_exchange(text_artifact: Artifact, body: bytes, said: str):
    with asking(content(body), content(packed(now()))) as peers:
        fetched = peers.fetch(text_artifact.manifest, "me", everything=False)
    assert [met.replica.id for met in fetched.met] == ["other"] and len(fetched.changed) == 1
    (trouble,) = fetched.troubles
    assert trouble.startswith(peers.addresses[0]) and said in trouble and len(trouble) < 300


def test_whatever_goes_wrong_with_one_is_said_of_that_one(text_artifact: Artifact, monkeypatch: pytest.MonkeyPatch):
    unpack = Published.unpack

    def failing(body: bytes, source: str) -> Published:
        if body == b"unexpected":
            raise ZeroDivisionError("nobody thought of this")
        return unpack(body, source)

    monkeypatch.setattr(module.Published, "unpack", failing)
    with asking(content(b"unexpected"), content(packed(now()))) as peers:
        fetched = peers.fetch(text_artifact.manifest, "me", everything=False)
    assert len(fetched.changed) == 1
    said = f"{peers.addresses[0]} gives what cannot be used (ZeroDivisionError: nobody thought of this)."
    assert fetched.troubles == [said]


def test_bucket_further_ahead_than_its_ring_is_long_is_not_kept(text_artifact: Artifact):
    with asking(content(packed(now() + 400)), content(packed(now() + 300, "near"))) as peers:
        peers.fetch(text_artifact.manifest, "me", everything=False)
    ((_, number),) = peers.shelves[text_artifact.manifest.digest].held
    assert number - now() in (299, 300)


@pytest.mark.parametrize("length", [True, False])
def test_answer_that_is_too_large_is_refused(text_artifact: Artifact, monkeypatch: pytest.MonkeyPatch, length: bool):
    monkeypatch.setattr(module, "LARGEST", 1 << 20)
    with asking(content(bytes((1 << 20) + 1), length)) as peers:
        fetched = peers.fetch(text_artifact.manifest, "me", everything=False)
    (said,) = fetched.troubles
    assert said == f"{peers.addresses[0]} answers with more than 1 MB: its traffic is not counted here."


@pytest.mark.parametrize("head", [b"Content-Length: 1000\r\n\r\n", b"\r\n", b"X-Header: "])
def test_answer_that_never_ends_is_given_up(text_artifact: Artifact, monkeypatch: pytest.MonkeyPatch, head: bytes):
    """In its content, of a known length or not, and in its headers."""
    monkeypatch.setattr(module, "WHOLE", 0.2)
    with asking(drip(head)) as peers:
        started = time.monotonic()
        while not (troubles := peers.fetch(text_artifact.manifest, "me", everything=False).troubles):
            assert time.monotonic() - started < 3.0
    assert troubles == [f"{peers.addresses[0]} cannot be reached (its answer takes longer than 0.2 s)."]
