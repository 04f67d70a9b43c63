"""A head is known by its bytes once it was parsed, if it is a plain one."""

import pytest

from service.fastpath.head_cache import HEAD_BYTES, KNOWN_HEADS, START, Head, HeadCache

HEADERS = [(b"host", b"x"), (b"content-length", b"12")]


URL = b"/embed"


def head(*lines: bytes) -> bytes:
    return START % URL + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


PLAIN = head(b"Host: x", b"Content-Length: 12")


def test_head_that_was_learned_is_found_by_exactly_its_bytes():
    head_cache = HeadCache()
    assert head_cache.known.get(PLAIN) is None
    head_cache.learn(PLAIN, HEADERS, URL)
    assert head_cache.known.get(PLAIN) == Head(HEADERS, 12, URL)
    for other in (PLAIN[:-1], PLAIN.lower(), PLAIN.replace(b"12", b"13"), b""):
        assert head_cache.known.get(other) is None


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (b"\r\n" + PLAIN, HEADERS),
        (b"\r\n\r\n", HEADERS),
        (PLAIN + PLAIN, HEADERS),
        (PLAIN[:-2], HEADERS),
        (PLAIN.replace(URL, b"/model"), HEADERS),
        (PLAIN, HEADERS[:1]),
        (PLAIN, [*HEADERS, (b"content-length", b"12")]),
        (PLAIN, [(b"content-length", b"+1")]),
        (PLAIN, [*HEADERS, (b"transfer-encoding", b"chunked")]),
        (PLAIN, [*HEADERS, (b"x-request-id", b"mine")]),
        (head(b"X: " + b"x" * HEAD_BYTES), HEADERS),
    ],
    ids=[
        "line before",
        "lines before",
        "two heads",
        "no end",
        "another path",
        "no length",
        "two lengths",
        "no number",
        "chunked",
        "named",
        "long",
    ],
)
def test_head_that_is_not_plain_is_not_learned(content: bytes, headers: list[tuple[bytes, bytes]]):
    head_cache = HeadCache()
    head_cache.learn(content, headers, URL)
    assert head_cache.known.get(content) is None


def test_heads_that_never_come_again_do_not_fill_the_memory():
    head_cache = HeadCache()
    many = [head(b"X-Once: %d" % number, b"Content-Length: 12") for number in range(KNOWN_HEADS + 1)]
    for content in many:
        head_cache.learn(content, HEADERS, URL)
    assert [head_cache.known.get(content) is not None for content in (many[0], many[-2], many[-1])] == [
        False,
        False,
        True,
    ]
