"""What can be the name of a model or of its version."""

import unicodedata

BREAKING = ("Cc", "Cs", "Zl", "Zp")  # controls, halves of surrogate pairs, separators of lines and paragraphs
TURNING = frozenset(map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A))))  # bidirectional controls


def check_printable(name: str) -> str:
    """The name; raises ValueError where it would break lines that have it, of a log for one, or turn them around."""
    if any(sign in TURNING or unicodedata.category(sign) in BREAKING for sign in name):
        raise ValueError(f"{name!r} is no name: expected no control characters, line breaks or changes of direction")
    return name
