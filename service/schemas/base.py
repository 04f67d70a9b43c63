"""What all bodies of the API share."""

from datetime import UTC, datetime

from pydantic import ConfigDict

from runtime.described import Described


class Body(Described):
    model_config = ConfigDict(extra="forbid", frozen=True)


def iso(seconds: float) -> str:
    """UTC, ISO 8601, whole seconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
