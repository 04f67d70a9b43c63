"""Parameters of messages."""

from collections.abc import Mapping
from typing import Any

from runtime.errors import InvalidInput

MOST = 100  # in one place of a message; the protocol and its extensions know a dozen


def parameters_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters by name; one without a value is None.

    Raises:
        InvalidInput: they are more than anybody means.
    """
    if len(given) > MOST:
        raise InvalidInput("invalid_request", f"{len(given):,} parameters are there, expected at most {MOST}.")
    kinds = {name: value.WhichOneof("parameter_choice") for name, value in given.items()}
    return {name: getattr(given[name], kind) if kind else None for name, kind in kinds.items()}
