"""Reads CSV and JSON lines row by row; a row that cannot be read is named, and does not spoil the others."""

import csv
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NamedTuple

from pydantic_core import to_json

from runtime.errors import DataError
from runtime.words import is_unicode, lacks

# a file without line ends, or with a lost quote, must not be read whole
LINE_BYTES, CELL_CHARACTERS = 64 << 20, 16 << 20
ESCAPED = range(0xDC80, 0xDD00)  # what Python makes of bytes that are no UTF-8
OPEN_QUOTE = "unexpected end of data"  # what Python says where a file ends in quotes
OPTIONS = "--text, --text-pair, --id"  # that name columns


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns are read.

    Attributes:
        value: the text, or the float sequence.
        pair: the second text, for a model that reads pairs.
        id: what names a row in the output; None: its number.
    """

    value: str
    pair: str | None = None
    id: str | None = None

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys(name for name in (self.value, self.pair, self.id) if name is not None))


class Row(NamedTuple):
    """One row; `line` counts from 1, and `fault` says why it cannot be used."""

    line: int
    cells: dict[str, Any]
    fault: str | None = None


class Reader(ABC):
    """Reads one file row by row.

    Attributes:
        read: bytes that were read so far.
        unit: what a row is counted in, for errors.
    """

    unit = "line"

    def __init__(self, path: Path, columns: Columns) -> None:
        self.path, self.columns, self.read = path, columns, 0

    @abstractmethod
    def rows(self) -> Iterator[Row]:
        """Raises DataError where the file as a whole cannot be used, and OSError."""

    def check_columns(self, have: Sequence[str]) -> None:
        """Raises DataError unless the file has each column that is read, once."""
        for name in self.columns.names:
            if name not in have:
                raise DataError(f"{self.path} {lacks(self.path, name, have, OPTIONS)}.")
            if have.count(name) > 1:
                raise DataError(f"{self.path} has {have.count(name)} columns {name!r}: rename all but one.")


class CsvReader(Reader):
    """Comma-separated values, with a header."""

    def rows(self) -> Iterator[Row]:
        csv.field_size_limit(CELL_CHARACTERS)
        with self.path.open("rb") as raw:
            # bytes that are no UTF-8 spoil their row, not the file
            text = TextIOWrapper(raw, encoding="utf-8-sig", errors="surrogateescape", newline="")
            reader = csv.reader(text, strict=True)
            try:
                header = next(filter(None, reader), [])
            except csv.Error as error:
                raise DataError(f"{self.path} has no header of CSV ({error}): write one.") from error
            if header:
                self.check_columns(header)
            while True:
                line = reader.line_num + 1
                try:
                    cells = next(reader, None)
                except csv.Error as error:
                    # within its quotes, a row of many lines took others along, and nobody could say which
                    if reader.line_num > line or str(error) == OPEN_QUOTE:
                        raise DataError(
                            f"{self.path}, line {line}: this is no CSV ({error}), a quote that opens here is not "
                            "closed where its cell ends: close it, or write two for one that belongs to the text."
                        ) from error
                    yield Row(line, {}, f"this is no CSV ({error})")  # the next line may be good again
                    continue
                if cells is None:
                    break
                self.read = raw.tell()
                if cells:
                    yield self.row(line, header, cells)

    def row(self, line: int, header: list[str], cells: list[str]) -> Row:
        if len(cells) != len(header):
            hint = ", put quotes around a text with commas" if len(cells) > len(header) else ""
            return Row(line, {}, f"there are {len(cells)} cells under {len(header)} names of columns{hint}")
        found = dict(zip(header, cells, strict=True))
        odd = [name for name in self.columns.names if is_escaped(found[name])]
        return Row(line, found, f"{odd[0]!r} is no UTF-8" if odd else None)


def is_escaped(text: str) -> bool:
    return not text.isascii() and any(ord(character) in ESCAPED for character in text)


def as_json(value: Any) -> bytes:
    """As JSON lines have it; Parquet has types that JSON has not. Raises ValueError where it cannot be."""
    return to_json(value, fallback=str, bytes_mode="base64", inf_nan_mode="null")


def fault_of_id(value: Any) -> str | None:
    """Why no output could hold it as the name of its row; None where it can."""
    if isinstance(value, str):
        return None if is_unicode(value) else "has half a surrogate pair, expected valid Unicode"
    if isinstance(value, list | dict):
        try:
            as_json(value)
        except ValueError:  # of pydantic, which tells where in its own code
            return "has half a surrogate pair or is too deep, expected a text or a number"
    return None


class JsonlReader(Reader):
    """A JSON object in each line."""

    def rows(self) -> Iterator[Row]:
        with self.path.open("rb") as file:
            number = 0
            while line := file.readline(LINE_BYTES + 1):
                number += 1
                if len(line) > LINE_BYTES:
                    most = f"{LINE_BYTES >> 20} MiB"
                    raise DataError(f"{self.path}, line {number}, is longer than {most}: write an object in each.")
                self.read += len(line)
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                if line.strip():
                    yield self.row(number, line)

    def row(self, number: int, line: bytes) -> Row:
        try:
            found = json.loads(line.decode())
        except UnicodeDecodeError:
            return Row(number, {}, "this is no UTF-8")
        except (ValueError, RecursionError) as error:
            return Row(number, {}, f"this is no JSON ({error})")
        if not isinstance(found, dict):
            return Row(number, {}, "this is no JSON object")
        missing = [name for name in self.columns.names if name not in found]
        return Row(number, found, f"it {lacks(self.path, missing[0], found, OPTIONS)}" if missing else None)
