"""Compressed bodies, bounded by what they inflate to."""

import gzip
import zlib
from collections.abc import Callable

from runtime.errors import InvalidInput, Unsupported
from service.limits import TooLarge

GZIP, ZLIB = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS  # zlib's words for the formats
FORMATS = {"gzip": GZIP, "x-gzip": GZIP, "deflate": ZLIB}
LEVEL = 1  # tensors of floats hardly shrink further
WORTH_IT = 1024  # bytes; smaller answers are sent as they are
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda content: gzip.compress(content, LEVEL, mtime=0),
    "deflate": lambda content: zlib.compress(content, LEVEL),
}


def inflated(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """A body without its Content-Encoding; no more than `max_bytes` + 1 of it are ever held.

    Raises:
        TooLarge: it inflates to more than `max_bytes`.
        InvalidInput: it is not what its encoding says.
        Unsupported: the encoding is not known.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding not in FORMATS:
        raise Unsupported(f"Content-Encoding {encoding!r} is not supported: send gzip, deflate, or the body as it is.")
    inflater = zlib.decompressobj(FORMATS[encoding])
    try:
        content = inflater.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise InvalidInput("invalid_encoding", f"The body is not {encoding} ({error}).") from None
    if len(content) > max_bytes:
        raise TooLarge(max_bytes)
    if not inflater.eof or inflater.unused_data:
        what = "ends early" if not inflater.eof else "has bytes behind its end"
        raise InvalidInput("invalid_encoding", f"The {encoding} body {what}, expected exactly one whole stream.")
    return content


def chosen(accept: str) -> str | None:
    """The encoding for an answer, of those that Accept-Encoding names; None: as it is."""
    weights: dict[str, float] = {}
    for part in accept.lower().split(","):
        name, _, parameter = part.partition(";")
        try:
            weights[name.strip()] = float(parameter.strip().removeprefix("q=")) if parameter else 1.0
        except ValueError:
            continue
    best = max(COMPRESS, key=lambda name: weights.get(name, 0.0))
    return best if weights.get(best, 0.0) > 0 else None
