"""What a model is to become, and what kept an artifact from it."""

from collections.abc import Mapping
from dataclasses import dataclass

from runtime.artifact import Artifact
from runtime.errors import AddNormError

Failures = Mapping[str, AddNormError]  # why an artifact cannot be served, by its digest


@dataclass(frozen=True, slots=True)
class Change:
    """What a model is to become.

    Attributes:
        artifacts: all that are to be served, by version; none unloads the model.
        fresh: those of them that are not served yet.
        required: the version without which nothing changes; None where whatever works is welcome.
        asked: versions that were asked for by their number.
    """

    name: str
    artifacts: dict[str, Artifact]
    fresh: list[Artifact]
    required: str | None = None
    asked: frozenset[str] = frozenset()
