"""The courier: every second it tells the others what this replica counted, and brings what they did, merged.

It runs beside what answers requests, in a thread or a process of its own: a store that hangs holds up nobody.
"""

import json
import logging
import threading
import time
import zlib
from collections.abc import Callable, Collection
from typing import Protocol

from runtime.manifest import Manifest
from runtime.store.checks import UNUSABLE
from runtime.store.shares import BASELINES, Published
from service.fleet.exchange import Exchange, Fetched, FleetError, Met
from service.fleet.merging import Merger
from service.norm_stats.interface import Delivery, Member

logger = logging.getLogger("addnorm.fleet")

INTERVAL, LEAST = 1.0, 0.1  # seconds from the beginning of a turn to the next, and between two at least
SKEW = 5.0  # seconds: half a time bucket
LARGEST = 1 << 26  # bytes of all baselines together
WITHHELD = (
    "Earlier counts were read from ADDNORM_STATE but cannot be written there, and are told to no other replica, or the "
    "next start would tell them again: free the disk or make the directory writable."
)


class Local(Protocol):
    """The collectors of this replica, in this process or in another."""

    def digests(self) -> list[str]: ...
    def manifest(self, digest: str) -> Manifest | None: ...
    def publish(self, digest: str, sequence: int, last: bool = False) -> Published | None: ...
    def deliver(self, digest: str, delivery: Delivery) -> None: ...


class Courier:
    """Goes between this replica and the others.

    Args:
        exchange: how they meet.
        clock: Unix seconds.
    """

    def __init__(self, exchange: Exchange, local: Local, clock: Callable[[], float] = time.time) -> None:
        self.exchange, self.local, self.clock = exchange, local, clock
        self.manifests: dict[str, Manifest] = {}
        self.pushed: dict[str, int] = {}  # the sequence up to which the others were told, by digest
        self.replaced: dict[str, frozenset[str]] = {}  # replicas whose counts are not to be added, by digest
        self.mergers: dict[str, Merger] = {}  # by digest
        self.said: dict[str, str] = {}  # the trouble that was logged last, by digest

    def run(self, stop: threading.Event) -> None:
        """Turns every second until it is told to stop, and once more then: nothing that was counted stays untold."""
        stopping, spent = False, 0.0
        while not stopping:
            stopping = stop.wait(max(LEAST, INTERVAL - spent))
            started = time.monotonic()
            try:
                self.turn(stopping)
            except (EOFError, OSError):  # whom it asks here is gone
                raise
            except Exception:
                logger.exception("defect in the exchange of statistics")
            spent = time.monotonic() - started
        self.exchange.close()

    def turn(self, last: bool = False) -> None:
        """Tells and asks once, for every artifact; `last`: histograms too, which are not told every time."""
        digests = self.local.digests()
        self._forget(digests)
        for digest in digests:
            manifest = self.manifests.get(digest) or self.local.manifest(digest)
            if manifest is None:  # it is gone again
                continue
            self.manifests[digest] = manifest
            try:
                self._turn(manifest, last)
            except FleetError as error:
                self._log(manifest, str(error))
                self.local.deliver(manifest.digest, Delivery({}, None, None, str(error)))

    def _forget(self, digests: Collection[str]) -> None:
        """All that is not among these: if it is served again, another start of it counts, and is told everything."""
        for gone in self.manifests.keys() - digests:
            del self.manifests[gone]
            for known in (self.pushed, self.replaced, self.mergers, self.said):
                known.pop(gone, None)
            self.exchange.forget(gone)

    def _turn(self, manifest: Manifest, last: bool) -> None:
        own = self._push(manifest, last)
        if own is None:
            return
        fetched = self._fetch(manifest, own)
        self._deliver(manifest, fetched, own)
        while fetched.more:  # each part is handed over at once: what fails later has lost nothing
            fetched = self.exchange.fetch(manifest, own.replica.id, everything=False)
            self._deliver(manifest, fetched, own)

    def _fetch(self, manifest: Manifest, own: Published) -> Fetched:
        """What changed; all there is, where other replicas than before are not to be counted any more."""
        before = self.replaced.get(manifest.digest)
        fetched = self.exchange.fetch(manifest, own.replica.id, everything=before is None)
        gone = (met.replica.replaces for met in fetched.met)
        now = frozenset(own.replica.replaces).union(*gone, [own.replica.id], before or ())  # also of who is forgotten
        if before not in (None, now):
            fetched = self.exchange.fetch(manifest, own.replica.id, everything=True)
        self.replaced[manifest.digest] = now
        return fetched

    def _deliver(self, manifest: Manifest, fetched: Fetched, own: Published) -> None:
        """Merges what was fetched, and hands it over."""
        replaced = self.replaced[manifest.digest]
        merger = self.mergers.setdefault(manifest.digest, Merger(manifest, self.clock))
        contents, refused = merger.merge(fetched.changed, replaced)
        others = [met for met in fetched.met if met.replica.id not in replaced]
        skewed = [skew(met) for met in fetched.met if abs(met.clock_offset or 0.0) > SKEW]
        withheld = [WITHHELD] if own.withheld else []
        trouble = " ".join(dict.fromkeys([*withheld, *fetched.troubles, *refused, *skewed]))
        self._log(manifest, trouble)
        since = min((met.replica.since for met in others), default=None)
        newest = newest_baselines(fetched)
        self.local.deliver(manifest.digest, Delivery(contents, since, tuple(map(member, others)), trouble, newest))

    def _push(self, manifest: Manifest, last: bool) -> Published | None:
        """Tells what is new; all of it, where the others have lost it."""
        digest = manifest.digest
        published = self.local.publish(digest, self.pushed.get(digest, 0), last)
        if not self._told(manifest, published):
            self.replaced.pop(digest, None)
            self.pushed.pop(digest, None)  # until all of it is there: if that fails, it is told and read anew
            published = self.local.publish(digest, 0)
            self._told(manifest, published)
        if published is not None and not published.withheld:
            self.pushed[digest] = published.replica.sequence
        return published

    def _told(self, manifest: Manifest, published: Published | None) -> bool:
        """Tells what there is to tell; False where the others have lost what they were told before."""
        return published is None or published.withheld or self.exchange.push(manifest, published)

    def _log(self, manifest: Manifest, trouble: str) -> None:
        """Once, until it changes."""
        if trouble and trouble != self.said.get(manifest.digest):
            logger.warning("%s version %s: %s", manifest.name, manifest.version, trouble)
        elif not trouble and self.said.get(manifest.digest):
            logger.info("%s version %s: all replicas are heard of again", manifest.name, manifest.version)
        self.said[manifest.digest] = trouble


def newest_baselines(fetched: Fetched) -> tuple[int, tuple[bytes, ...]] | None:
    """Revision and contents of those that were taken last; None where none can be read."""
    shares = fetched.changed.get((BASELINES, 0), {})
    for share in sorted(shares.values(), key=lambda share: share.sequence, reverse=True):
        try:
            held = json.loads(zlib.decompressobj().decompress(share.content, LARGEST))
            return share.sequence, tuple(str(baseline).encode() for baseline in held)
        except (*UNUSABLE, zlib.error):
            logger.warning("baselines that a replica shares cannot be read")
    return None


def member(met: Met) -> Member:
    return Member(met.replica.id, met.replica.name, met.replica.since, met.heard, met.clock_offset)


def skew(met: Met) -> str:
    seconds = met.clock_offset or 0.0
    off, remedy = ("ahead", " and restart it") if seconds > 0 else ("behind", "")
    return (
        f"The clock of {met.replica.name} is {abs(seconds):.0f} s {off}: its traffic counts in other time buckets, "
        f"set its clock (NTP){remedy}."
    )
