"""API keys: who may change the service's state, and whatever else the settings ask a key for."""

import hmac
from dataclasses import dataclass

from starlette.requests import Request

from runtime.errors import SettingError, Unauthorized
from service.settings import Settings

BEARER = b"bearer "
NEEDED = "This needs an API key: send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`."

Headers = list[tuple[bytes, bytes]]


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
            SettingError: the file cannot be read, or holds no key; or there is none where something needs one.
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
        if settings.api_key_for and not any(keys):
            raise SettingError("api_key_for asks for keys and there is none: set api_keys or api_keys_file too.")
        return cls(tuple(key.encode() for key in keys if key))

    def __call__(self, request: Request) -> None:
        """Raises Unauthorized unless the request shows a known key."""
        if not self.known(request.headers.raw):
            raise Unauthorized(NEEDED)

    def known(self, headers: Headers) -> bool:
        """Whether a request shows a known key, or none is needed; compares in constant time."""
        if not self.keys:
            return True
        shown = shown_in(headers)
        return sum(hmac.compare_digest(shown, key) for key in self.keys) > 0  # all are compared, whichever it is


def shown_in(headers: Headers) -> bytes:
    """The key that a request shows; empty where it shows none."""
    shown = b""
    for name, value in headers:
        if name == b"authorization" and value[: len(BEARER)].lower() == BEARER:
            return value[len(BEARER) :]
        if name == b"x-api-key":
            shown = value
    return shown
