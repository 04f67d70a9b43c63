"""What replicas of one service tell one another: each its own time buckets, cumulative, never increments.

A share that is lost, doubled, late or out of order changes nothing: of one replica and one bucket the highest sequence
holds, and a reader sums over replicas. This is a state-based CRDT (Shapiro et al. 2011, "Conflict-free replicated data
types"): a grow-only counter, joined by the newer sequence.
"""

import json
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple, Self

from pydantic_core import to_json

from runtime.errors import StateError
from runtime.manifest import Manifest
from runtime.statistics.deep import DeepState
from runtime.statistics.fleet import EVERYTHING, EVERYTHING_DEEP, Content
from runtime.statistics.recorder import Place
from runtime.statistics.state import SparseState, merge_sparse
from runtime.statistics.windows import Windows
from runtime.store.binary import unpack_content
from runtime.store.checks import END, UNUSABLE, belongs, checked_name, within

FORMAT = 1
FIGURES, WHOLE, BASELINES = "figures", "whole", "baselines"
SEQUENCES = 10**16  # every sequence is smaller: a store writes them in so many digits
KINDS = {ring: {WHOLE} if ring.startswith("deep") else {FIGURES, WHOLE} for ring in (*Windows.sizes(), EVERYTHING)}
KINDS |= {EVERYTHING_DEEP: {WHOLE}, BASELINES: {WHOLE}}  # what is told of each ring
LENGTH = struct.Struct("<I")
SECONDS = {name: (ring.seconds, ring.size) for name, ring in Windows([]).named.items()}
LATE = 60  # seconds after its end in which a bucket may still change
KEPT = 30 * 86_400  # seconds for which a store keeps what belongs to no bucket, after the last write


class Share(NamedTuple):
    """What one replica counted in one bucket.

    Attributes:
        kind: figures, a state without histograms and features; whole; or baselines.
        sequence: of this replica, higher where it is newer.
    """

    ring: str
    number: int
    kind: str
    sequence: int
    content: bytes

    @property
    def place(self) -> Place:
        return self.ring, self.number


@dataclass(frozen=True, slots=True)
class Replica:
    """Who counts: one start of one service.

    Attributes:
        id: another at every start, so that a service that counts anew is not taken for an old one.
        name: host and port, for people.
        since: when it began to count (Unix seconds).
        replaces: earlier starts whose counts it has taken over from disk; theirs do not count any more.
        sequence: the highest of its shares.
        revision: of its baselines.
    """

    id: str
    name: str
    since: float
    replaces: tuple[str, ...] = ()
    sequence: int = 0
    revision: int = 0

    def to_json(self) -> bytes:
        return to_json(asdict(self))

    @classmethod
    def from_json(cls, content: bytes, source: str) -> Self:
        """Raises StateError where it is none."""
        try:
            return cls._of(json.loads(content))
        except UNUSABLE as error:
            raise StateError(f"{source} names no replica ({error}).") from error

    @classmethod
    def _of(cls, raw: dict[str, Any]) -> Self:
        replaces = tuple(checked_name(each) for each in raw["replaces"])
        sequence, revision = (int(within(raw[name], SEQUENCES)) for name in ("sequence", "revision"))
        since = float(within(raw["since"], END))
        return cls(checked_name(raw["id"]), checked_name(raw["name"]), since, replaces, sequence, revision)


class Published(NamedTuple):
    """What a replica tells of one artifact: all that changed since a sequence.

    Attributes:
        clock: its Unix time.
        withheld: whether it is not to be told yet.
    """

    replica: Replica
    clock: float
    shares: Sequence[Share]
    withheld: bool = False

    def pack(self) -> bytes:
        """As peers hand it out: JSON that describes the contents, and the contents."""
        described = [(*share[:4], len(share.content)) for share in self.shares]
        head = to_json({"format": FORMAT, "replica": asdict(self.replica), "clock": self.clock, "shares": described})
        return LENGTH.pack(len(head)) + head + b"".join(share.content for share in self.shares)

    @classmethod
    def unpack(cls, content: bytes, source: str) -> Self:
        """Raises StateError where it is no such answer."""
        try:
            (size,) = LENGTH.unpack_from(content)
            at = LENGTH.size + size
            raw = json.loads(content[LENGTH.size : at])
            if raw["format"] != FORMAT:
                raise ValueError(f"format {raw['format']!r:.40}")
            shares = []
            for ring, number, kind, sequence, length in raw["shares"]:
                if not is_told(ring, number, kind) or length < 0 or at + length > len(content):
                    raise ValueError(f"no content of {ring!r:.40}")
                sequence = int(within(sequence, SEQUENCES))
                shares.append(Share(ring, int(number), kind, sequence, content[at : at + length]))
                at += length
            return cls(Replica._of(raw["replica"]), float(within(raw["clock"], END)), shares)
        except (*UNUSABLE, struct.error) as error:
            raise StateError(f"{source} gives no statistics of format {FORMAT} ({error}).") from error


class Shelf:
    """The newest share of every replica, bucket and kind."""

    def __init__(self) -> None:
        self.held: dict[Place, dict[tuple[str, str], Share]] = {}

    def put(self, replica: str, share: Share) -> bool:
        """Keeps it; False where it is not newer than what is held."""
        held = self.held.setdefault(share.place, {})
        before = held.get((replica, share.kind))
        if before is not None and before.sequence >= share.sequence:
            return False
        held[replica, share.kind] = share
        return True

    def forget(self, is_over: Iterable[Place]) -> None:
        for place in is_over:
            self.held.pop(place, None)


def is_told(ring: str, number: int, kind: str) -> bool:
    """Whether there are such shares: what belongs to no bucket has number 0."""
    seconds, _ = SECONDS.get(ring, (END, 0))
    return ring in KINDS and kind in KINDS[ring] and 0 <= number * seconds < END


def is_ahead(place: Place, now: float) -> bool:
    """Whether a bucket is so far ahead that nobody reads it: of a clock that is wrong by more than its ring is long."""
    return place[0] in SECONDS and place[1] * SECONDS[place[0]][0] > now + lifetime(place[0])


def is_over(place: Place, now: float, expired: bool = False) -> bool:
    """Whether a bucket will hardly change any more; whether a store has dropped it."""
    if place[0] not in SECONDS:
        return False
    seconds, _ = SECONDS[place[0]]
    return now > (place[1] + 1) * seconds + (lifetime(place[0]) if expired else LATE)


def lifetime(ring: str) -> int:
    """Seconds for which a store keeps a bucket of that ring after the last write."""
    seconds, size = SECONDS.get(ring, (KEPT, 0))
    return seconds * (size + 1)


Read = Callable[[Share, str], Content]


def merged(
    manifest: Manifest,
    place: Place,
    shares: Mapping[tuple[str, str], Share],
    without: frozenset[str] = frozenset(),
    read: Read | None = None,
) -> tuple[Content | None, list[StateError]]:
    """What all replicas counted in a bucket, and which shares were left out of it, and why.

    Args:
        shares: by replica and kind.
        without: replicas that do not count.
        read: gives the content of a share as `read_share` does, given what the share is called in errors.
    """
    read = read or (lambda share, source: read_share(manifest, place, share, source))
    errors, parts = [], []
    for replica in sorted({replica for replica, _ in shares} - without):
        figures, whole = (shares.get((replica, kind)) for kind in (FIGURES, WHOLE))
        try:
            parts.append(_of_one(read, figures, whole, f"What replica {replica} shares"))
        except StateError as error:
            errors.append(error)
    if not parts:
        return None, errors
    deep = [part for part in parts if isinstance(part, DeepState)]
    if deep:
        return DeepState.merge_all(deep), errors
    sparse = [part for part in parts if isinstance(part, SparseState)]
    return sparse[0] if len(parts) == 1 else SparseState.compress(merge_sparse(sparse, manifest.layers)), errors


def _of_one(read: Read, figures: Share | None, whole: Share | None, source: str) -> Content:
    """The newest of one replica: newer figures, with the histograms and features of some seconds before."""
    contents = [read(share, source) for share in (figures, whole) if share is not None]
    if figures is None or whole is None:
        return contents[0]
    if figures.sequence <= whole.sequence:
        return contents[1]
    newest, before = contents
    assert isinstance(newest, SparseState) and isinstance(before, SparseState)
    return replace(newest, places=before.places, counts=before.counts, features=before.features)


def read_share(manifest: Manifest, place: Place, share: Share, source: str) -> Content:
    """What a share holds. Raises StateError where it is none, or of another artifact."""
    content = unpack_content(place[0], share.content, source)
    if not belongs(content, manifest):
        raise StateError(f"{source} does not fit the layers and labels of {manifest.name}: it is of another artifact.")
    return content
