"""Admission: API keys, and a limit to the requests in flight."""

import hmac
from dataclasses import dataclass
from typing import Literal

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from runtime.errors import AddNormError, Overloaded, SettingError, Unauthorized
from service.http.errors import domain_response
from service.settings import Settings
from service.telemetry.counters import Headers, RequestCounters

Subject = Literal["inference", "reads", "metrics", "health", "public"]

# What the beginning of a path says about a request; the first that fits. `public` never needs a key: it says nothing of
# models and traffic. Changes of state always need one, once one is set, and are guarded where they are.
PREFIXES: tuple[tuple[str, Subject], ...] = (
    ("/health", "health"),
    ("/v2/health", "health"),
    ("/metrics", "metrics"),
    ("/traffic", "metrics"),
    ("/docs", "public"),
    ("/openapi.json", "public"),
    ("/page/", "public"),
)

BEARER = b"bearer "
NEEDED = "This needs an API key: send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`."


@dataclass(frozen=True, slots=True)
class ApiKeys:
    """The accepted API keys; as a FastAPI dependency it refuses requests that show none of them.

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


class Admission:
    """Refuses requests without a key where one is needed, and those beyond the limit.

    Args:
        counters: say how many requests are in flight.

    Attributes:
        is_open: whether every request is let in: there is nothing to look at then.

    Raises:
        SettingError: the keys of the settings cannot be used.
    """

    def __init__(self, settings: Settings, counters: RequestCounters) -> None:
        self.keys, self.counters = ApiKeys.of(settings), counters
        self.need_key = frozenset(settings.api_key_for.split(",")) - {""} if self.keys.keys else frozenset()
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
