"""API keys: who may change the service's state."""

import hmac
from dataclasses import dataclass
from typing import Annotated

from fastapi import Header

from runtime.errors import SettingError, Unauthorized
from service.settings import Settings

BEARER = "bearer "


@dataclass(frozen=True, slots=True)
class ApiKeys:
    """The keys that are known; a FastAPI dependency that lets a request pass which shows one of them.

    Without any key, every request passes.
    """

    keys: tuple[bytes, ...]

    @classmethod
    def of(cls, settings: Settings) -> "ApiKeys":
        """The keys of the settings and of their file.

        Raises:
            SettingError: the file cannot be read, or holds no key.
        """
        keys = [key.strip() for key in settings.api_keys.split(",")]
        if (path := settings.api_keys_file) is not None:
            try:
                lines = [line.strip() for line in path.read_text().splitlines()]
            except (OSError, UnicodeError) as error:
                raise SettingError(f"{path} cannot be read ({error}): name a file with one API key a line.") from error
            if not any(lines):
                raise SettingError(f"{path} holds no API key: write one a line, or leave api_keys_file out.")
            keys += lines
        return cls(tuple(key.encode() for key in keys if key))

    def __call__(self, authorization: Annotated[str, Header()] = "", x_api_key: Annotated[str, Header()] = "") -> None:
        """Raises Unauthorized unless the request shows a known key; compares in constant time."""
        shown = authorization[len(BEARER) :] if authorization.lower().startswith(BEARER) else x_api_key
        known = [hmac.compare_digest(shown.encode(), key) for key in self.keys]
        if self.keys and not any(known):
            raise Unauthorized("This needs an API key: send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`.")
