"""What sentences repeat of what was sent, and of what there is: short enough to be read, whatever it is."""

from collections.abc import Iterable
from pathlib import Path

MOST_CHARACTERS = 100
MOST_NAMES = 30
SEPARATORS = (";", "\t", "|")  # that other programs write between the cells of a CSV file, and no column's name has


def shortened(value: object) -> str:
    """A value as text."""
    text = str(value[:MOST_CHARACTERS] if isinstance(value, list) else value)  # no more of a long list is written
    is_cut = len(text) > MOST_CHARACTERS or (isinstance(value, list) and len(value) > MOST_CHARACTERS)
    return f"{text[:MOST_CHARACTERS]}…" if is_cut else text


def encodable(text: str) -> str:
    """A text with escapes for what UTF-8 has not: bytes of paths that are no text."""
    return text.encode(errors="backslashreplace").decode()


def is_unicode(text: str) -> bool:
    """Whether UTF-8 has all of a text: JSON can carry half a surrogate pair, and files may be called by any bytes."""
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def quoted(text: str) -> str:
    """A text in quotes, with escapes for what does not show."""
    return repr(shortened(text))


def listed(names: Iterable[str]) -> str:
    """Names with commas between; of many, the first ones and how many more there are."""
    every = list(names)
    shown = ", ".join(map(shortened, every[:MOST_NAMES])) or "none"
    return shown if len(every) <= MOST_NAMES else f"{shown} and {len(every) - MOST_NAMES:,} more"


def lacks(path: Path, column: str, there: Iterable[str], options: str) -> str:
    """Says that a column of a file is not there, which are, and what to do.

    Args:
        options: by which columns are named.
    """
    have = list(there)
    is_one = len(have) == 1 and any(sign in have[0] for sign in SEPARATORS)  # and should be several
    todo = "separate columns with commas" if is_one and path.suffix.lower() == ".csv" else f"name yours with {options}"
    return f"has no column {column!r}; it has {', '.join(map(repr, have)) or 'none'}: {todo}"
