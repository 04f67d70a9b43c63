"""How the body of an answer is read."""

from collections.abc import Callable
from typing import TypeVar

import httpx
from pydantic import BaseModel, ConfigDict, TypeAdapter

from addnorm_client.errors import AddNormAnswerError


class Body(BaseModel):
    """An answer, or a part of one; what a newer service adds to it is left out."""

    model_config = ConfigDict(
        extra="ignore", frozen=True, populate_by_name=True, serialize_by_alias=True, use_attribute_docstrings=True
    )


Answer = TypeVar("Answer")
Kind = TypeVar("Kind", bound=Body)


def read(response: httpx.Response, how: Callable[[bytes], Answer]) -> Answer:
    """What a response says; raises AddNormAnswerError where it is none of an AddNorm service."""
    try:
        return how(response.content)
    except ValueError as error:
        message = f"{response.url} answers with something else than expected: check the address."
        raise AddNormAnswerError(message) from error


def one(kind: type[Kind]) -> Callable[[bytes], Kind]:
    """Reads an object; what is returned raises ValueError where the body is something else."""
    return kind.model_validate_json


def several(kind: type[Kind]) -> Callable[[bytes], list[Kind]]:
    """Reads an array of objects; what is returned raises ValueError where the body is something else."""
    return TypeAdapter(list[kind]).validate_json  # type: ignore[valid-type]


def unread(body: bytes) -> bytes:
    """The body as it came."""
    return body


def nothing(_: bytes) -> None:
    """What a change of state answers says no more than that it was made."""
