"""Who is let in, and how many: API keys for more than changes of state, and a limit to requests in flight."""

from typing import Literal

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from runtime.errors import AddNormError, Overloaded, Unauthorized
from service.errors import domain_response
from service.keys import NEEDED, ApiKeys, Headers
from service.settings import Settings
from service.traffic import Traffic

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


class Admission:
    """Refuses requests without a key where one is needed, and those beyond the limit.

    Args:
        traffic: says how many requests are in flight.
    """

    def __init__(self, settings: Settings, keys: ApiKeys, traffic: Traffic) -> None:
        self.keys, self.traffic = keys, traffic
        self.need_key = frozenset(settings.api_key_for.split(",")) if keys.keys else frozenset()
        self.max_in_flight = settings.max_in_flight

    @classmethod
    def of(cls, settings: Settings, keys: ApiKeys, traffic: Traffic) -> "Admission | None":
        """None where every request is let in: there is nothing to look at then."""
        admission = cls(settings, keys, traffic)
        return admission if admission.need_key - {""} or admission.max_in_flight else None

    def refusal(self, method: str, path: str, headers: Headers) -> Response | None:
        """The answer to a request that is not let in, and is in flight already; None to others."""
        try:
            self.check(subject_of(method, path), headers)
        except AddNormError as error:
            return domain_response(error, path)
        return None

    def check(self, subject: Subject, headers: Headers) -> None:
        """Raises Unauthorized or Overloaded for a request that is not let in."""
        if subject in self.need_key and not self.keys.known(headers):
            raise Unauthorized(NEEDED)
        limit = self.max_in_flight
        if subject == "inference" and limit is not None and self.traffic.in_flight > limit:
            raise Overloaded(f"{limit:,} requests are being answered already, the most at a time: send it again.", 1.0)


class Admitted:
    """ASGI middleware: lets in what is admitted."""

    def __init__(self, app: ASGIApp, admission: Admission) -> None:
        self.app, self.admission = app, admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self.app
        if scope["type"] == "http":
            app = self.admission.refusal(scope["method"], scope["path"], scope["headers"]) or app
        await app(scope, receive, send)


def subject_of(method: str, path: str) -> Subject:
    """What a request asks for: what is sent is to be answered, all else is read, but for what PREFIXES say."""
    if path == "/":
        return "public"
    for prefix, subject in PREFIXES:
        if path.startswith(prefix):
            return subject
    return "inference" if method == "POST" and not path.startswith("/norm-stats") else "reads"
