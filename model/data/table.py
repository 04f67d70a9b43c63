"""A user's own texts: a CSV file with a header, or JSON lines."""

import csv
import json
import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from model.data.dataset import Dataset, split_rows
from runtime.errors import DataError
from runtime.graph.inputs import describe
from runtime.words import is_unicode, lacks

FORMATS = (".csv", ".jsonl")
CELL_CHARACTERS = 2**31 - 1  # of a CSV file, as a C long has everywhere; Python's own limit is 131,072
OPTIONS = "--text and --label"
UNSEEN = ("Cc", "Cf", "Zl", "Zp", "Zs")  # Unicode's categories of controls, of what is not drawn, and of space


def load(path: Path, text_column: str, label_column: str) -> Dataset:
    """Reads a labelled table and splits it.

    Raises:
        DataError: the file cannot be read, lacks a column, or holds an empty text or label; names the line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            columns = (text_column, label_column)
            rows = list(read_csv(path, file, columns) if path.suffix.lower() == ".csv" else read_jsonl(path, file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise unreadable(path, error, "UTF-8 CSV with a header, or JSON lines") from error
    if not rows:
        raise DataError(f"{path} has no rows: expected at least 2 for each of 2 classes.")
    texts = [cell(path, line, row, text_column) for line, row in rows]
    labels = [cell(path, line, row, label_column) for line, row in rows]
    return split_rows(str(path), f"the user's file {path.name}", texts, labels)


def unreadable(path: Path, error: Exception, expected: str) -> DataError:
    """What to raise of a file that cannot be opened, or is something else than was expected."""
    if isinstance(error, FileNotFoundError):
        return DataError(f"{path} cannot be read: it does not exist; give the path of a file that does.")
    return DataError(f"{path} cannot be read ({error}): expected {expected}.")


def read_csv(path: Path, file: Any, columns: Iterable[str] | None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows with their last lines.

    Args:
        columns: those that are read, of which each may be there once; None: all.
    """
    csv.field_size_limit(CELL_CHARACTERS)
    reader = csv.DictReader(file, strict=True)
    header = list(reader.fieldnames or ())
    check_single(path, header, columns)
    for column in (columns or ()) if header else ():
        if column not in header:
            raise DataError(f"{path}, line 1, {lacks(path, column, header, OPTIONS)}.")
    begins = 0
    try:
        for row in reader:
            more = row.pop(None, [])  # what lies beyond the header's columns
            if any(more):  # some programs end each line in a comma
                raise DataError(
                    f"{path}, line {reader.line_num}, has {len(row) + len(more)} cells where the header has "
                    f"{len(row)}: put a text with commas in quotes."
                )
            yield reader.line_num, row
            begins = reader.line_num
    except csv.Error as error:  # a quote that is never closed takes all lines that follow it
        raise DataError(
            f"{path} is no CSV from line {begins + 1} on ({error}): close each quote right before a comma or the "
            "line's end, and double those inside a text."
        ) from error


def check_single(path: Path, names: list[str], columns: Iterable[str] | None) -> None:
    """Refuses a table with several columns of a name that is read: one of them would be taken in silence."""
    counts = Counter(names)
    for name in names if columns is None else columns:
        if counts[name] > 1:
            raise DataError(f"{path} has {counts[name]} columns named {name!r}: give each a name of its own.")


def read_jsonl(path: Path, file: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}, line {number}, is not JSON ({error}): expected one object per line.") from error
        if not isinstance(row, dict):
            raise DataError(f"{path}, line {number}, is not a JSON object: expected one object per line.")
        yield number, row


def cell(path: Path, line: int, row: dict[str, Any], column: str) -> str:
    """The text in a column of a row; raises DataError where there is none."""
    if column not in row:
        raise DataError(f"{path}, line {line}, {lacks(path, column, row, OPTIONS)}.")
    value = row[column]
    if value and not isinstance(value, str | int | float):
        raise DataError(f"{path}, line {line}, has {describe(value)} in {column!r}: write a text.")
    if isinstance(value, float) and not math.isfinite(value):
        raise DataError(
            f"{path}, line {line}, has {value} in {column!r}, which is no value: fill it, or remove the line."
        )
    text = str(value).strip() if isinstance(value, str | int | float) else ""
    if not is_unicode(text):
        raise DataError(f"{path}, line {line}, has half a surrogate pair in {column!r}: write valid Unicode.")
    if not text:
        raise DataError(f"{path}, line {line}, has an empty {column!r}: fill it, or remove the line.")
    if not text.isprintable() and all(unicodedata.category(sign) in UNSEEN for sign in text):
        raise DataError(f"{path}, line {line}, has nothing visible in {column!r}: fill it, or remove the line.")
    return text
