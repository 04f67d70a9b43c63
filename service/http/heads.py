"""Request heads: which are refused before they become requests, and what is left of one without its upgrade."""

from service.http.limits import HEAD_BYTES, LARGE_HEAD, Rejection
from service.telemetry.counters import Headers

HOP_BY_HOP = (b"upgrade", b"http2-settings")
HOST_COUNT = Rejection(400, "invalid_http", "The request has no Host header, or several: send exactly one.")
TRANSFER_CODING = Rejection(
    400, "invalid_http", "Only the transfer coding chunked is taken: send chunks of the body as it is, or its length."
)


class HeadRefused(Exception):
    """Ends the parser's work."""

    def __init__(self, rejection: Rejection) -> None:
        self.rejection = rejection


def check_head(url: bytes, headers: Headers, version: str) -> None:
    """Checks what the parser lets pass.

    Args:
        headers: names in lower case.
        version: of HTTP, such as `1.1`.

    Raises:
        HeadRefused: it is too large, does not name one host (RFC 9112, 3.2), or its body is coded (6.1).
    """
    size, hosts = len(url), 0
    codings: list[bytes] = []
    for name, value in headers:
        size += len(name) + len(value) + 4
        if name == b"host":
            hosts += 1
        elif name == b"transfer-encoding":
            codings.append(value.strip().lower())
    if size > HEAD_BYTES:
        raise HeadRefused(LARGE_HEAD)
    if hosts > 1 or (hosts == 0 and version >= "1.1"):
        raise HeadRefused(HOST_COUNT)
    if codings and codings != [b"chunked"]:  # the parser undoes chunks alone: what is in them would be taken as it is
        raise HeadRefused(TRANSFER_CODING)


def without_upgrade(method: str, url: bytes, headers: Headers, version: str) -> bytes:
    """The head of the same request, which asks for no upgrade."""
    lines = [b"%s %s HTTP/%s" % (method.encode(), url, version.encode())]
    for name, value in headers:
        if name == b"connection":
            options = (part.strip() for part in value.split(b","))
            value = b", ".join(option for option in options if option.lower() not in HOP_BY_HOP)
        if name not in HOP_BY_HOP:
            lines.append(b"%s: %s" % (name, value))
    return b"\r\n".join([*lines, b"", b""])
