"""Changes of what is served, on their way through all workers (service/rollout.py)."""

from dataclasses import dataclass, field
from math import inf
from typing import Literal

from runtime.errors import AddNormError, Unavailable
from service.change import Change
from service.forking import Worker

What = Literal["load", "unload", "mend", "follow"]
OUTCOMES = 64  # that are kept for those who asked


@dataclass(eq=False, slots=True)
class Operation:
    """A change that was asked for.

    Attributes:
        asked: whether somebody waits to hear how it ended.
        round: tells what workers say about it from what they say about another; None before it begins.
        waiting: workers that have not prepared yet, or, once it is decided, not confirmed.
        deadline: until when they have time, on the monotonic clock.
    """

    number: int
    what: What
    name: str
    version: str | None = None
    asked: bool = False
    round: int | None = None
    change: Change | None = None
    decided: bool = False
    failures: dict[str, AddNormError] = field(default_factory=dict)
    waiting: set[Worker] = field(default_factory=set)
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
