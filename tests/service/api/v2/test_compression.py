import gzip
import zlib

import pytest

from runtime.errors import TooLarge
from service.api.v2.request import COMPRESS, chosen, inflated


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        ("", None),
        ("identity", None),
        ("br, zstd", None),
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("gzip, deflate", "gzip"),
        ("deflate, gzip", "gzip"),
        ("gzip;q=0.5, deflate", "deflate"),
        ("GZIP;q=0", None),
        ("gzip;q=0, deflate; q=0.1", "deflate"),
        ("gzip;q=high", None),
    ],
)
def test_accept_encoding_chooses(accept: str, coding: str | None):
    assert chosen(accept) == coding


@pytest.mark.parametrize(("coding", "read"), [("gzip", gzip.decompress), ("deflate", zlib.decompress)])
def test_compressed_answers_are_what_their_name_says(coding: str, read: object):
    assert read(COMPRESS[coding](b"hello" * 100)) == b"hello" * 100
    assert inflated(COMPRESS[coding](b"hello"), coding, 100) == b"hello"


def test_exactly_the_limit_inflates():
    assert len(inflated(gzip.compress(b"a" * 100), "gzip", 100)) == 100
    with pytest.raises(TooLarge):
        inflated(gzip.compress(b"a" * 101), "gzip", 100)
