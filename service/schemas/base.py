"""What all bodies of the API share."""

from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, frozen=True)


def iso(seconds: float) -> str:
    """UTC, ISO 8601, whole seconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
