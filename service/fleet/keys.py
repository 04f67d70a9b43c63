"""The names under which a store holds what replicas share, and what is read of a name that anyone may have written."""

from runtime.manifest import Manifest
from runtime.statistics.recorder import Place
from runtime.store.shares import is_told

DIGITS = 19  # of a number at most


def prefix(manifest: Manifest) -> str:
    return f"addnorm:{{{manifest.digest[:32]}}}"


def parse(member: bytes) -> tuple[Place, str] | None:
    """Place and kind that a change names; None where it names none."""
    ring, _, rest = member.decode(errors="replace").partition(":")
    digits, _, kind = rest.partition(":")
    number = number_of(digits.encode())
    return ((ring, number), kind) if number is not None and is_told(ring, number, kind) else None


def number_of(digits: bytes) -> int | None:
    """The number that these digits are; None where they are something else, or too many."""
    return int(digits) if digits.isdigit() and len(digits) <= DIGITS else None
