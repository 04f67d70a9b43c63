"""Admission: API keys, and a limit to the requests in flight."""

import hmac
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from runtime.errors import AddNormError, Forbidden, Overloaded, SettingError, Unauthorized
from service.http.errors import domain_response
from service.http.origins import check_origin
from service.settings import Settings, split_list
from service.telemetry.counters import Headers, RequestCounters

Subject = Literal["inference", "reads", "metrics", "health", "public", "changes"]

# What the beginning of a path says about a request; the first that fits. `public` never needs a key: it says nothing of
# models and traffic. Changes of state always need one, once one is set: ChangeGuard sees to it.
PREFIXES: tuple[tuple[str, Subject], ...] = (
    ("/health", "health"),
    ("/v2/health", "health"),
    ("/metrics", "metrics"),
    ("/traffic", "metrics"),
    ("/docs", "public"),
    ("/openapi.json", "public"),
    ("/page/", "public"),
    ("/v2/repository/index", "reads"),
    ("/v2/repository/", "changes"),
)

BEARER = b"bearer "
NEEDED = "This needs an API key: send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`."


@dataclass(frozen=True, slots=True)
class ApiKeys:
    """The accepted API keys. Without any, every request passes.

    Attributes:
        full: keys that may do everything.
        inference: keys that may do everything but change state.
    """

    full: tuple[bytes, ...]
    inference: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, settings: Settings) -> "ApiKeys":
        """The keys of the settings and of their files.

        Raises:
            SettingError: a file cannot be read; it, or a setting, holds no key that can be used; or there is none where
                something needs one.
        """
        keys = cls(
            read_keys(settings.api_keys, settings.api_keys_file, "api_keys"),
            read_keys(settings.inference_keys, settings.inference_keys_file, "inference_keys"),
        )
        if settings.api_key_for and not keys:
            raise SettingError("api_key_for asks for keys and there is none: set api_keys or api_keys_file too.")
        return keys

    def __bool__(self) -> bool:
        return bool(self.full or self.inference)

    def known(self, headers: Headers) -> bool:
        """Whether a request shows a known key, or none is needed."""
        return not self or shows(headers, self.full + self.inference)

    def check_change(self, headers: Headers) -> None:
        """Raises Unauthorized or Forbidden if a request may not change state."""
        if not self.known(headers):
            raise Unauthorized(NEEDED)
        if self and not shows(headers, self.full):
            raise Forbidden("key_not_allowed", "This API key may not change state: use one of ADDNORM_API_KEYS.")


def read_keys(listed: str, path: Path | None, setting: str) -> tuple[bytes, ...]:
    keys = split_list(listed)
    if listed and not keys:
        raise SettingError(f"{setting} holds no API key: write some with commas between them, or leave it out.")
    if path is not None:
        try:
            lines = [line.strip() for line in path.read_text().splitlines()]
        except (OSError, UnicodeError) as error:
            raise SettingError(f"{path} cannot be read ({error}): name a file with one API key a line.") from error
        if not any(lines):
            raise SettingError(f"{path} holds no API key: write one a line, or leave {setting}_file out.")
        keys += lines
    try:
        return tuple(key.encode() for key in keys if key)
    except UnicodeEncodeError:  # which would show the key
        raise SettingError(f"{setting} holds an API key that is not in UTF-8: choose another.") from None


def shows(headers: Headers, keys: tuple[bytes, ...]) -> bool:
    """Whether a request shows one of `keys`; compares in constant time."""
    shown = shown_in(headers)
    return sum(hmac.compare_digest(shown, key) for key in keys) > 0  # all are compared, whichever it is


@dataclass(frozen=True, slots=True)
class ChangeGuard:
    """A FastAPI dependency of what changes state.

    Attributes:
        trusted: origins whose pages may ask for changes.
    """

    keys: ApiKeys
    trusted: frozenset[str]

    def __call__(self, request: Request) -> None:
        """Raises Unauthorized or Forbidden if the request may not change state."""
        check_origin(request.headers.raw, self.trusted)
        self.keys.check_change(request.headers.raw)


class Admission:
    """Refuses requests without a key where one is needed, and those beyond the limit.

    Args:
        counters: say how many requests are in flight.

    Attributes:
        is_open: whether every request is admitted: there is nothing to look at then.
        guard: checks requests that change state.

    Raises:
        SettingError: the keys of the settings cannot be used.
    """

    def __init__(self, settings: Settings, counters: RequestCounters) -> None:
        self.keys, self.counters = ApiKeys.of(settings), counters
        origins = frozenset(split_list(settings.cors_origins))
        self.guard = ChangeGuard(self.keys, origins)
        self.need_key = frozenset(settings.api_key_for.split(",")) - {""} if self.keys else frozenset()
        self.max_in_flight = settings.max_in_flight
        self.is_open = not self.need_key and self.max_in_flight is None

    def rejection(self, method: str, path: str, headers: Headers) -> Response | None:
        """The error response if the request, already in flight, is not admitted; None if it is."""
        try:
            self.check(subject_of(method, path), headers)
        except AddNormError as error:
            return domain_response(error, path)
        return None

    def check(self, subject: Subject, headers: Headers) -> None:
        """Raises Unauthorized or Overloaded if the request is not admitted."""
        if subject in self.need_key and not self.keys.known(headers):
            raise Unauthorized(NEEDED)
        limit = self.max_in_flight
        if subject == "inference" and limit is not None and self.counters.in_flight > limit:
            raise Overloaded(f"{limit:,} requests are being answered already, the most at a time: send it again.", 1.0)


class AdmissionMiddleware:
    """ASGI middleware: answers requests that are not admitted."""

    def __init__(self, app: ASGIApp, admission: Admission) -> None:
        self.app, self.admission = app, admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self.app
        if scope["type"] == "http":
            app = self.admission.rejection(scope["method"], scope["path"], scope["headers"]) or app
        await app(scope, receive, send)


def subject_of(method: str, path: str) -> Subject:
    """What a request asks for: what is sent is to be answered, all else is read, but for what PREFIXES say."""
    if path == "/":
        return "public"
    for prefix, subject in PREFIXES:
        if path.startswith(prefix):
            return subject
    return "inference" if method == "POST" and not path.startswith("/norm-stats") else "reads"


def shown_in(headers: Headers) -> bytes:
    """The key that a request shows; empty where it shows none."""
    shown = b""
    for name, value in headers:
        if name == b"authorization" and value[: len(BEARER)].lower() == BEARER:
            return value[len(BEARER) :]
        if name == b"x-api-key":
            shown = value
    return shown
