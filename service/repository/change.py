"""What a model is to become, and what kept an artifact from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Literal, Protocol

from runtime.artifact import Artifact
from runtime.errors import AddNormError, Unavailable

Failures = Mapping[str, AddNormError]  # why an artifact cannot be served, by its digest

What = Literal["load", "unload", "mend", "follow"]
OUTCOMES = 64  # that are kept for those who asked

# What a rollout and its participants say to each other. A participant first says READY, or FAILED. For every change the
# rollout says PREPARE to all; each answers PREPARED; then the rollout says SERVE, which each confirms by SERVED, or
# DROP.
READY, FAILED = "ready", "failed"
PREPARE, PREPARED = "prepare", "prepared"
SERVE, SERVED = "serve", "served"
DROP = "drop"


class Participant(Protocol):
    """A process that serves what a rollout decides."""

    @property
    def pid(self) -> int: ...

    def order(self, what: str, *arguments: object) -> None:
        """Tells it what is to be served."""


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
    """A change that was asked for.

    Attributes:
        requested: whether somebody waits to hear how it ended.
        round: tells what workers say about it from what they say about another; None before it begins.
        waiting: workers that have not prepared yet, or, once it is decided, not confirmed.
        deadline: until when they have time, on the monotonic clock.
    """

    number: int
    what: What
    name: str
    version: str | None = None
    requested: bool = False
    round: int | None = None
    change: Change | None = None
    decided: bool = False
    failures: dict[str, AddNormError] = field(default_factory=dict)
    waiting: set[Participant] = field(default_factory=set)
    deadline: float = inf


class Outcomes:
    """How operations ended, until it is asked for."""

    def __init__(self) -> None:
        self._errors: dict[int, AddNormError | None] = {}

    def add(self, number: int, error: AddNormError | None) -> None:
        self._errors[number] = error
        for forgotten in list(self._errors)[:-OUTCOMES]:
            del self._errors[forgotten]

    def take(self, number: int) -> None:
        """Raises the error that an operation ended in."""
        if number not in self._errors:
            raise Unavailable("What became of it is not known any more: ask for the index.")
        if (error := self._errors.pop(number)) is not None:
            raise error
