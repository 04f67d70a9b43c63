"""The baseline's texts: what normal traffic of an adopted encoder looks like, from the user's own file."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.data.table import cell, read_csv, read_jsonl
from runtime.errors import DataError

FORMATS = (".txt", ".csv", ".jsonl", ".parquet")
FEWEST = 10  # texts: fewer are no baseline
Rows = Iterator[tuple[int, dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Texts:
    """What the baseline is measured on.

    Attributes:
        inputs: texts, or pairs of texts.
        labels: the class of each, where the file has them.
    """

    inputs: list[Any]
    labels: list[str] | None

    @property
    def pairs(self) -> bool:
        return isinstance(self.inputs[0], list)


def read_texts(path: Path, text: str | None, text_pair: str | None = None, label: str | None = None) -> Texts:
    """Reads texts, one in a line, or from columns of a table.

    Args:
        text: column of the text; `text` where it is not given.
        text_pair: column of the second text; None where an input is one text.
        label: column of the class; None where there is none.

    Raises:
        DataError: the file cannot be read, lacks a column, or holds an empty text; names the line.
    """
    if path.suffix not in FORMATS:
        raise DataError(f"{path} is no file of texts: expected one that ends in {', '.join(FORMATS)}.")
    try:
        rows = list(read_rows(path, [name for name in (text, text_pair, label) if name is not None]))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read ({error}): expected UTF-8 text.") from error
    if len(rows) < FEWEST:
        raise DataError(
            f"{path} has {len(rows)} texts: expected {FEWEST} or more; 300 give a verdict, 1,500 a good one."
        )
    first = [cell(path, line, row, text or "text") for line, row in rows]
    labels = None if label is None else [cell(path, line, row, label) for line, row in rows]
    if text_pair is None:
        return Texts(first, labels)
    second = [cell(path, line, row, text_pair) for line, row in rows]
    return Texts([list(pair) for pair in zip(first, second, strict=True)], labels)


def read_rows(path: Path, columns: list[str]) -> Rows:
    if path.suffix == ".parquet":
        yield from read_parquet(path)
        return
    with path.open(encoding="utf-8-sig", newline="") as file:
        if path.suffix == ".csv":
            yield from read_csv(file)
        elif path.suffix == ".jsonl":
            yield from read_jsonl(path, file)
        else:
            if columns:
                raise DataError(f"{path} has no columns, it has a text in a line: leave {columns[0]!r} out.")
            yield from ((number, {"text": line}) for number, line in enumerate(file, 1) if line.strip())


def read_parquet(path: Path) -> Rows:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise DataError(f"{path} needs pyarrow: run `pip install pyarrow`, or convert it to CSV.") from None
    try:
        table = parquet.read_table(path)
    except ArrowException as error:
        raise DataError(f"{path} cannot be read ({str(error).splitlines()[0]}): expected a Parquet file.") from error
    yield from enumerate(table.to_pylist(), 1)
