"""The exchange without a store: what other services answer, and addresses that give nothing."""

import http.server
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from runtime.artifact import Artifact
from runtime.errors import SettingError
from runtime.store.shares import LENGTH, WHOLE, Published, Replica, Share
from service.fleet.host import check_exchange
from service.fleet.peers import Peers, checked, resolved
from service.settings import Settings
from tests.service.fleet.conftest import free_port


class Answers(http.server.BaseHTTPRequestHandler):
    """Answers what the test wants."""

    status, content, host = 200, b"", ""

    def do_GET(self) -> None:
        type(self).host = self.headers["Host"]
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        self.wfile.write(self.content)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def peer() -> Iterator[tuple[type[Answers], Peers]]:
    handler = type("Handler", (Answers,), {})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    peers = Peers(f"127.0.0.1:{server.server_port}")
    yield handler, peers
    peers.close()
    server.shutdown()
    server.server_close()


def packed(sequence: int, who: str = "other", content: bytes = b"x") -> bytes:
    shares = [Share("window-10", int(time.time() // 10), WHOLE, sequence, content)]
    return Published(Replica(who, "host:8000", 1.0, sequence=sequence), time.time() + 100.0, shares).pack()


def test_newer_is_kept_and_older_is_not(peer: tuple[type[Answers], Peers], text_artifact: Artifact):
    handler, peers = peer
    for sequence, content, expected in ((5, b"first", b"first"), (7, b"newer", b"newer"), (6, b"late", None)):
        handler.content = packed(sequence, content=content)
        fetched = peers.fetch(text_artifact.manifest, "me", everything=False)
        found = [share.content for shares in fetched.changed.values() for share in shares.values()]
        assert found == ([] if expected is None else [expected]) and not fetched.troubles
    assert fetched.met[0].clock_offset == pytest.approx(100.0, abs=5.0)


def test_itself_is_known_and_left_alone(peer: tuple[type[Answers], Peers], text_artifact: Artifact):
    handler, peers = peer
    handler.content = packed(5, who="me")
    assert peers.fetch(text_artifact.manifest, "me", everything=False) == ({}, [], [], False)
    handler.status = 500  # it is not asked again
    assert peers.fetch(text_artifact.manifest, "me", everything=False) == ({}, [], [], False)


@pytest.mark.parametrize(
    ("status", "content", "said"),
    [
        (404, b"", "does not serve this version of this model"),
        (401, b"", "refuses the API key: give all replicas the same ADDNORM_API_KEYS"),
        (403, b'{"error": "No.", "code": "host_not_allowed"}', "refuses the name it is asked by"),
        (403, b'{"error": "No.", "code": "forbidden"}', "refuses the API key"),
        (403, b"[" * 60_000, "refuses the API key"),
        (200, b"<html>", "gives no statistics of format 1"),
        (200, LENGTH.pack(2) + b"{}", "gives no statistics of format 1"),
        (200, packed(1).replace(b'"format":1', b'"format":9'), "(format 9)"),
        (200, packed(1)[:-1], "gives no statistics of format 1"),
        (200, b"", "gives no statistics of format 1"),
        (503, b"", "answers 503: it is no AddNorm"),
    ],
)
def test_what_is_no_replica_is_named(
    peer: tuple[type[Answers], Peers], text_artifact: Artifact, status: int, content: bytes, said: str
):
    handler, peers = peer
    handler.status, handler.content = status, content
    (trouble,) = peers.fetch(text_artifact.manifest, "me", everything=False).troubles
    assert said in trouble and trouble.startswith("http://127.0.0.1:") and trouble.endswith(".")


def test_address_that_is_silent_keeps_nobody_long(text_artifact: Artifact, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("service.fleet.peers.TIMEOUT", 0.1)
    peers = Peers(f"127.0.0.1:{free_port()},dns:nowhere.invalid:8000")
    started = time.monotonic()
    troubles = peers.fetch(text_artifact.manifest, "me", everything=False).troubles
    assert time.monotonic() - started < 10
    assert "nowhere.invalid cannot be resolved" in troubles[0] and "cannot be reached" in troubles[1]
    peers.close()


def test_one_that_hangs_holds_up_no_other(
    peer: tuple[type[Answers], Peers], text_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("service.fleet.peers.MOMENT", 0.2)
    handler, peers = peer
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        peers.addresses.append(f"http://127.0.0.1:{hanging.getsockname()[1]}")
        handler.content = packed(5)
        started = time.monotonic()
        fetched = peers.fetch(text_artifact.manifest, "me", everything=False)
        assert time.monotonic() - started < 1.0
        assert len(fetched.changed) == 1 and not fetched.troubles
        deadline = time.monotonic() + 10
        while not (troubles := peers.fetch(text_artifact.manifest, "me", everything=False).troubles):
            assert time.monotonic() < deadline
        assert len(troubles) == 1 and "cannot be reached" in troubles[0]
        assert peers.fetch(text_artifact.manifest, "me", everything=False).troubles == troubles  # while it hangs again


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("a:1", "http://a:1"),
        ("https://a:1", "https://a:1"),
        ("dns:a.b:80", "dns:a.b:80"),
        ("http://[::1]:8", "http://[::1]:8"),
    ],
)
def test_addresses(address: str, found: str):
    assert checked(address) == found


@pytest.mark.parametrize(
    "address", ["a", "http://a", "dns:a", "dns:a:x", "ftp://a:1", "http://a:99999", "http://a:1/path", "http://["]
)
def test_what_is_no_address_is_refused_at_the_start(address: str):
    with pytest.raises(SettingError, match=r"^peers has .*, expected http://HOST:PORT"):
        check_exchange(Settings(peers=f"a:1,{address}"))


def test_name_stands_for_all_its_addresses():
    urls, troubles = resolved(["dns:localhost:80", "http://127.0.0.2:80"])
    assert urls["http://127.0.0.1:80"] == "localhost" and urls["http://127.0.0.2:80"] == "" and not troubles


def test_what_a_name_stands_for_is_asked_by_it_so_that_the_name_can_be_allowed(
    peer: tuple[type[Answers], Peers], text_artifact: Artifact
):
    handler, peers = peer
    port = peers.addresses[0].rpartition(":")[2]
    named = Peers(f"dns:localhost:{port}")
    for each, host in ((peers, f"127.0.0.1:{port}"), (named, f"localhost:{port}")):
        each.fetch(text_artifact.manifest, "me", everything=False)
        assert handler.host == host
    named.close()


def test_version_that_was_swapped_out_there_is_no_trouble(peer: tuple[type[Answers], Peers], text_artifact: Artifact):
    handler, peers = peer
    unserved = b'{"error": "This service serves no artifact of that digest.", "code": "unknown_model"}'
    handler.status, handler.content = 404, unserved
    (trouble,) = peers.fetch(text_artifact.manifest, "me", everything=False).troubles  # it never served it
    assert "does not serve this version of this model" in trouble
    handler.status, handler.content = 200, packed(5)
    assert not peers.fetch(text_artifact.manifest, "me", everything=False).troubles
    handler.status, handler.content = 404, unserved
    fetched = peers.fetch(text_artifact.manifest, "me", everything=False)
    assert not fetched.troubles and len(fetched.met) == 1
    handler.content = b'{"error": "No layer of that name.", "code": "unknown_layer"}'  # without ADDNORM_PEERS
    assert peers.fetch(text_artifact.manifest, "me", everything=False).troubles == [trouble]


def test_artifact_that_is_forgotten_is_asked_for_from_the_beginning(
    peer: tuple[type[Answers], Peers], text_artifact: Artifact
):
    handler, peers = peer
    digest = text_artifact.manifest.digest
    handler.content = packed(5)
    assert peers.fetch(text_artifact.manifest, "me", everything=False).met
    peers.forget(digest)
    (known,) = peers.peers.values()
    assert not (peers.shelves or peers.met or peers.asking or known.sequences or known.answered or known.trouble)
    assert len(peers.fetch(text_artifact.manifest, "me", everything=False).changed) == 1


def test_answer_that_comes_after_its_artifact_was_forgotten_leaves_nothing(
    peer: tuple[type[Answers], Peers], text_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
):
    handler, peers = peer
    handler.content = packed(5)
    monkeypatch.setattr("service.fleet.peers.MOMENT", 0.0)
    peers.fetch(text_artifact.manifest, "me", everything=False)
    late = list(peers.asking.values())
    peers.forget(text_artifact.manifest.digest)
    for asked in late:
        asked.result(5.0)
    (known,) = peers.peers.values()
    assert not (known.sequences or known.answered)
