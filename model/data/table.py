"""A user's own texts: a CSV file with a header, or JSON lines."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from model.data.dataset import Dataset, split_rows
from runtime.errors import DataError
from runtime.graph.texts import is_unicode

FORMATS = (".csv", ".jsonl")


def load(path: Path, text_column: str, label_column: str) -> Dataset:
    """Reads a labelled table and splits it.

    Raises:
        DataError: the file cannot be read, lacks a column, or holds an empty text or label; names the line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(read_csv(file) if path.suffix == ".csv" else read_jsonl(path, file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read ({error}): expected UTF-8 CSV with a header, or JSON lines.") from error
    if not rows:
        raise DataError(f"{path} has no rows: expected at least 2 for each of 2 classes.")
    texts = [cell(path, line, row, text_column) for line, row in rows]
    labels = [cell(path, line, row, label_column) for line, row in rows]
    return split_rows(str(path), f"the user's file {path.name}", texts, labels)


def read_csv(file: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(file)
    for row in reader:
        yield reader.line_num, row


def read_jsonl(path: Path, file: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}, line {number}, is not JSON ({error}): expected one object per line.") from error
        if not isinstance(row, dict):
            raise DataError(f"{path}, line {number}, is not a JSON object: expected one object per line.")
        yield number, row


def cell(path: Path, line: int, row: dict[str, Any], column: str) -> str:
    if column not in row:
        have = ", ".join(repr(name) for name in row if name is not None)
        raise DataError(
            f"{path}, line {line}, has no column {column!r}; it has {have}: name yours with --text and --label."
        )
    value = row[column]
    text = str(value).strip() if isinstance(value, str | int | float) else ""
    if not is_unicode(text):
        raise DataError(f"{path}, line {line}, has half a surrogate pair in {column!r}: write valid Unicode.")
    if not text:
        raise DataError(f"{path}, line {line}, has an empty {column!r}: fill it, or remove the line.")
    return text
