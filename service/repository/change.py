"""A change of what is served, from its plan to its end, and what a rollout and its participants say about it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, Protocol

from runtime.artifact import Artifact
from runtime.errors import AddNormError

Failures = Mapping[str, AddNormError]  # why an artifact cannot be served, by its digest

# What a rollout and its participants say to each other. A participant first says READY, or FAILED. For every change the
# rollout says PREPARE to all; each answers PREPARED; then the rollout says SERVE, which each confirms by SERVED, or
# DROP. A participant whose client wants a change says LOAD or UNLOAD, and is told by DONE how it ended.
READY, FAILED = "ready", "failed"
PREPARE, PREPARED = "prepare", "prepared"
SERVE, SERVED = "serve", "served"
DROP = "drop"
LOAD, UNLOAD, DONE = "load", "unload", "done"


class Participant(Protocol):
    """A process that serves what a rollout decides."""

    @property
    def pid(self) -> int: ...

    def order(self, what: str, *arguments: object) -> None:
        """Tells it what is to be served, or how a change ended that it asked for. Returns at once."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a model is to become.

    Attributes:
        artifacts: all that are to be served, by version; none unloads the model.
        fresh: those of them that are not served yet.
        required: the version without which nothing changes; None where whatever works is welcome.
        pinned: versions that were asked for by their number.
    """

    name: str
    artifacts: dict[str, Artifact]
    fresh: list[Artifact]
    required: str | None = None
    pinned: frozenset[str] = frozenset()


@dataclass(eq=False, slots=True)
class Operation:
    """A change that is to be made.

    Attributes:
        plan: decides what the model is to become; reads and verifies what is new. It is called with the catalog.
        done: told how it ended: with an error, or None.
        round: tells what participants say about this plan from what they say about another.
        change: what was planned; None before, and once it was dropped.
        waiting: participants that have not prepared yet, or, once it is decided, not confirmed.
        deadline: until when they have time, on the monotonic clock.
    """

    name: str
    plan: Callable[[Any], Change]
    done: Callable[[AddNormError | None], None]
    round: int = 0
    change: Change | None = None
    decided: bool = False
    failures: dict[str, AddNormError] = field(default_factory=dict)
    waiting: set[Participant] = field(default_factory=set)
    deadline: float = inf
