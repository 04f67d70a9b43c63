"""Where replicas meet: what an exchange is given and gives, whether they ask one another or share a store."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from runtime.manifest import Manifest
from runtime.statistics.recorder import Place
from runtime.store.shares import Published, Replica, Share

Shares = Mapping[tuple[str, str], Share]  # by replica and kind


class FleetError(Exception):
    """The others cannot be reached, or give what cannot be used; says which and why."""


class Met(NamedTuple):
    """A replica as it was met.

    Attributes:
        heard: when it was last heard of (Unix seconds of this machine).
        clock_offset: seconds that its clock is ahead of the one that is trusted: the store's, or this machine's.
    """

    replica: Replica
    heard: float
    clock_offset: float | None


class Fetched(NamedTuple):
    """What changed since the last time.

    Attributes:
        changed: everything that is shared of the buckets that changed.
        met: all replicas that there are, this one as well where a store tells of it.
        troubles: what could not be used, in a sentence each.
        more: whether there is more, to be asked for next.
    """

    changed: Mapping[Place, Shares]
    met: list[Met]
    troubles: list[str]
    more: bool = False


class Exchange(Protocol):
    """One of the ways to meet."""

    def push(self, manifest: Manifest, published: Published) -> bool:
        """Tells the others; False where they have lost what they were told before, and need all of it.

        Raises:
            FleetError: they cannot be told now.
        """

    def fetch(self, manifest: Manifest, own: str, everything: bool) -> Fetched:
        """What the others tell.

        Args:
            own: this replica's id.
            everything: of all buckets, and not of those alone that changed since the last time.

        Raises:
            FleetError: they cannot be asked now.
        """

    def forget(self, digest: str) -> None:
        """Lets go what is held of an artifact; if it is fetched again, all of it is told and read anew."""

    def close(self) -> None: ...
