"""The exchange without a store: every replica asks the others over HTTP what they counted since the last time.

What was heard of a replica that is gone stays. A replica that starts later does not know it: for that there is a store.
"""

import http.client
import io
import json
import socket
import ssl
import time
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import urlencode, urlsplit

from runtime.errors import SettingError, StateError, UnknownModel
from runtime.manifest import Manifest
from runtime.statistics.recorder import Place
from runtime.store.shares import Published, Shelf, is_ahead, is_over
from service.fleet.exchange import Fetched, FleetError, Met

TIMEOUT = 2.0  # seconds that a replica has to answer
MOMENT = 0.5  # seconds of a turn that wait for answers: what comes later is taken in the next turn
MOST = 64  # replicas that are asked at once
WHOLE = 30.0  # seconds for a whole answer, however it comes
LARGEST = 1 << 28  # bytes of an answer: a full day of 49 norms of 1,024 features takes 100 million
SHORT = 1 << 16  # bytes of a refusal that are read
FORGET = 86_400.0  # seconds after which one that is gone is named no more
Answer = tuple[Published, float] | FleetError | None


@dataclass(slots=True)
class Peer:
    """Another address, and what came from there.

    Attributes:
        name: that was resolved to the address in the URL; empty where none was.
        sequences: of each replica that answered there, what was heard last, by digest.
        trouble: why it gave nothing at last, by digest.
    """

    url: str
    name: str = ""
    sequences: dict[tuple[str, str], int] = field(default_factory=dict)
    answered: dict[str, str] = field(default_factory=dict)  # the replica's id, by digest
    trouble: dict[str, str] = field(default_factory=dict)


class Peers:
    """Asks other replicas.

    Args:
        addresses: as ADDNORM_PEERS has them.
        port: where an address of a DNS name listens, unless it says so.
        key: an API key that they accept; they are told it where it is not empty.
        ca: certificates that theirs may be signed by, beside the system's.

    Raises:
        SettingError: one of them is no address.
    """

    def __init__(self, addresses: str, key: str = "", ca: str | None = None) -> None:
        self.addresses = [checked(address.strip()) for address in addresses.split(",") if address.strip()]
        self.key, self.context = key, None if ca is None else ssl.create_default_context(cafile=ca)
        self.peers: dict[str, Peer] = {}
        self.shelves: defaultdict[str, Shelf] = defaultdict(Shelf)
        self.met: dict[tuple[str, str], Met] = {}  # by digest and replica
        self.pool = ThreadPoolExecutor(MOST, "addnorm-peers")
        self.asking: dict[tuple[str, str], Future[Answer]] = {}  # by digest and URL

    def push(self, manifest: Manifest, published: Published) -> bool:
        """They ask for it themselves."""
        return True

    def fetch(self, manifest: Manifest, own: str, everything: bool) -> Fetched:
        digest, shelf = manifest.digest, self.shelves[manifest.digest]
        urls, troubles = resolved(self.addresses)
        self.peers = {url: self.peers.get(url, Peer(url, name)) for url, name in urls.items()}
        asked = list(self.peers.values())
        changed: set[Place] = set(shelf.held) if everything else set()
        for peer, answer in self._answers(asked, manifest, own):
            if isinstance(answer, FleetError):
                peer.trouble[digest] = str(answer)
                continue
            peer.trouble.pop(digest, None)
            if answer is not None:
                published, offset = answer
                replica = published.replica
                peer.answered[digest], peer.sequences[digest, replica.id] = replica.id, replica.sequence
                if replica.id == own:
                    continue
                self.met[digest, replica.id] = Met(replica, time.time(), offset)
                changed |= {share.place for share in published.shares if shelf.put(replica.id, share)}
        troubles += [peer.trouble[digest] for peer in asked if digest in peer.trouble]
        now = time.time()
        gone = [known for known, met in self.met.items() if now - met.heard > FORGET]
        for known in gone:
            del self.met[known]
        shelf.forget([place for place in shelf.held if is_over(place, now, expired=True) or is_ahead(place, now)])
        met = [each for (of, _), each in self.met.items() if of == digest]
        return Fetched({place: dict(shelf.held.get(place, {})) for place in changed}, met, troubles)

    def forget(self, digest: str) -> None:
        self.shelves.pop(digest, None)
        self.met = {known: met for known, met in self.met.items() if known[0] != digest}
        self.asking = {known: asked for known, asked in self.asking.items() if known[0] != digest}
        for peer in self.peers.values():
            peer.sequences = {known: each for known, each in peer.sequences.items() if known[0] != digest}
            peer.answered.pop(digest, None)
            peer.trouble.pop(digest, None)

    def close(self) -> None:
        self.pool.shutdown(wait=False, cancel_futures=True)

    def _answers(self, asked: list[Peer], manifest: Manifest, own: str) -> list[tuple[Peer, Answer]]:
        """What came within a moment. One that does not answer is not asked again meanwhile, and holds up no other."""
        due = {(manifest.digest, peer.url): peer for peer in asked}
        for key, peer in due.items():
            if key not in self.asking:
                self.asking[key] = self.pool.submit(self._ask, peer, manifest, own)
        wait([self.asking[key] for key in due], MOMENT)
        self.asking = {key: each for key, each in self.asking.items() if key in due or key[0] != manifest.digest}
        return [(peer, self.asking.pop(key).result()) for key, peer in due.items() if self.asking[key].done()]

    def _ask(self, peer: Peer, manifest: Manifest, own: str) -> Answer:
        """What a replica counted since the last time, and how far its clock is ahead; None where it is this one."""
        digest = manifest.digest
        replica = peer.answered.get(digest, "")
        if replica == own:
            return None
        query = {"digest": digest, "replica": replica, "since": peer.sequences.get((digest, replica), 0)}
        started = time.time()
        try:
            content = self._get(peer, f"/norm-stats/exchange?{urlencode(query)}")
            published = Published.unpack(content, peer.url)
        except Unserved as error:
            return None if replica else error  # it was swapped out there, and told before what it had counted
        except (FleetError, StateError) as error:
            return FleetError(str(error))
        except (OSError, http.client.HTTPException) as error:
            return FleetError(f"{peer.url} cannot be reached ({error or type(error).__name__}).")
        except Exception as error:  # whatever one gives, the others are heard
            return FleetError(f"{peer.url} gives what cannot be used ({type(error).__name__}: {error}).")
        return published, published.clock - (started + time.time()) / 2

    def _get(self, peer: Peer, path: str) -> bytes:
        url, parts = peer.url, urlsplit(peer.url)
        secure = partial(http.client.HTTPSConnection, context=self.context)
        connect = secure if parts.scheme == "https" else http.client.HTTPConnection
        connection = connect(parts.hostname or "", parts.port, timeout=TIMEOUT)
        connection.response_class = Response
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        headers |= {"Host": f"{peer.name}:{parts.port}"} if peer.name else {}  # hosts are allowed by name
        try:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            if response.status != 200:
                raise refusal(url, response.status, response.read(SHORT))
            content = b"" if (response.length or 0) > LARGEST else response.read(LARGEST + 1)
            if (response.length or 0) > LARGEST or len(content) > LARGEST:
                raise FleetError(f"{url} answers with more than {LARGEST >> 20} MB: its traffic is not counted here.")
            return content
        finally:
            connection.close()


class Unserved(FleetError):
    """It serves no such artifact: nothing is counted there that is missing here."""


def refusal(url: str, status: int, content: bytes) -> FleetError:
    """What an answer with that status means, and what to do."""
    try:
        code = json.loads(content)["code"]
    except (ValueError, TypeError, KeyError, RecursionError):  # of a proxy, or of something else
        code = ""
    if status == 404:
        kind = Unserved if code == UnknownModel.code else FleetError
        has_not = "does not serve this version of this model, or has no ADDNORM_PEERS"
        return kind(f"{url} {has_not}: its traffic is not counted here.")
    if status == 403 and code == "host_not_allowed":
        return FleetError(f"{url} refuses the name it is asked by: put it into its ADDNORM_ALLOWED_HOSTS.")
    if status in (401, 403):
        return FleetError(f"{url} refuses the API key: give all replicas the same ADDNORM_API_KEYS.")
    return FleetError(f"{url} answers {status}: it is no AddNorm, or of an older version.")


class Response(http.client.HTTPResponse):
    """An answer that is read up to a deadline for the whole."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fp = io.BufferedReader(Timed(self.fp.detach()))


class Timed(io.RawIOBase):
    """What a socket gives: a socket's own limit is for each part, and a drip of them may never end."""

    def __init__(self, source: io.RawIOBase) -> None:
        self.source, self.deadline = source, time.monotonic() + WHOLE

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if time.monotonic() > self.deadline:
            raise TimeoutError(f"its answer takes longer than {WHOLE:g} s")
        return self.source.readinto(buffer)

    def close(self) -> None:
        self.source.close()
        super().close()


def checked(address: str) -> str:
    """An address of ADDNORM_PEERS; raises SettingError where it is none."""
    try:
        parts = urlsplit(address if "://" in address or address.startswith("dns:") else f"http://{address}")
        if parts.scheme == "dns":
            name, _, port = address.removeprefix("dns:").rpartition(":")
            if name and port.isdigit() and 0 < int(port) < 65536:
                return address
        elif parts.scheme in ("http", "https") and parts.hostname and parts.port and not parts.path.strip("/"):
            return f"{parts.scheme}://{parts.netloc}"
    except ValueError:
        pass
    raise SettingError(f"peers has {address!r}, expected http://HOST:PORT, https://HOST:PORT or dns:NAME:PORT.")


def resolved(addresses: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """The URLs of all with the DNS name that gave each, for every address that it has; and which names have none."""
    urls: dict[str, str] = {}
    troubles = []
    for address in addresses:
        if not address.startswith("dns:"):
            urls[address] = ""
            continue
        name, _, port = address.removeprefix("dns:").rpartition(":")
        try:
            found = sorted({str(info[4][0]) for info in socket.getaddrinfo(name, int(port), type=socket.SOCK_STREAM)})
            for each in found:
                urls.setdefault(f"http://[{each}]:{port}" if ":" in each else f"http://{each}:{port}", name)
        except OSError as error:
            troubles.append(f"The name {name} cannot be resolved ({error}).")
    return urls, troubles
