"""Requests of web pages: the hosts that a request may name, and the origins whose pages may change state.

A browser lets any page send requests to any address, its user's own machine included; it says from where, and the page
cannot read the answer. DNS rebinding makes a name of the page's own lead here: then the page reads it.
"""

from starlette.types import ASGIApp, Receive, Scope, Send

from runtime.errors import Forbidden
from runtime.words import quoted, shortened
from service.http.errors import domain_response
from service.settings import Settings, split_list
from service.telemetry.counters import Headers

LOOPBACK = ("localhost", "127.0.0.1", "::1", "[::1]")
HEALTH = ("/health/", "/v2/health/")  # probes name an address of a container; there is nothing to read for others


def allowed_hosts(settings: Settings) -> frozenset[str] | None:
    """The host names that requests may be sent to; None for all.

    Where the settings name none: those of this machine if only it is listened to, else all.
    """
    named = set(split_list(settings.allowed_hosts))
    if not named and settings.host in LOOPBACK:
        named = {*LOOPBACK}
    return None if not named or "*" in named else frozenset(named)


def host_name(host: str) -> str:
    """A Host header's name, without the port."""
    name, _, port = host.rpartition(":")
    return (name if name and port.isdigit() else host).lower()


def allows(hosts: frozenset[str] | None, headers: Headers) -> bool:
    """Whether a request is sent to one of `hosts`, or names none."""
    host = dict(headers).get(b"host", b"").decode("latin-1")
    if hosts is None or not host:
        return True
    name = host_name(host)
    parents = (name[at:] for at, sign in enumerate(name) if sign == ".")
    return name in hosts or any(f"*{parent}" in hosts for parent in parents)


class HostMiddleware:
    """ASGI middleware: refuses requests that were sent to a host of another name, but for those of probes."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str]) -> None:
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self.app
        checked = scope["type"] == "http" and not scope["path"].startswith(HEALTH)
        if checked and not allows(self.hosts, scope["headers"]):
            host = dict(scope["headers"])[b"host"].decode("latin-1")
            message = f"This service is not called {quoted(host)}: name it in ADDNORM_ALLOWED_HOSTS, or * for any name."
            app = domain_response(Forbidden("host_not_allowed", message), scope["path"])
        await app(scope, receive, send)


def check_origin(headers: Headers, trusted: frozenset[str]) -> None:
    """Lets changes of state be asked for by programs, by the service's own page, and by pages of trusted origins.

    Args:
        trusted: origins, or `*`.

    Raises:
        Forbidden: another page asks.
    """
    named = dict(headers)
    origin = named.get(b"origin", b"").decode("latin-1")
    if "*" in trusted or (origin and origin in trusted):
        return
    host = named.get(b"host", b"").decode("latin-1").lower()
    own = not origin or (host and origin.lower().partition("://")[2] == host)
    if not own or named.get(b"sec-fetch-site") == b"cross-site":
        raise Forbidden(
            "foreign_origin",
            f"A page of {shortened(origin or 'another site')} may not change what is served or the baseline: "
            "add its origin to ADDNORM_CORS_ORIGINS, or ask from elsewhere.",
        )
