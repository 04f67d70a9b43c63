"""The baseline's texts: what normal traffic of an adopted encoder looks like, from the user's own file."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.data.table import cell, check_single, read_csv, read_jsonl, unreadable
from runtime.errors import DataError, ExportError
from runtime.manifest import Task

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
    if path.suffix.lower() not in FORMATS:
        raise DataError(f"{path} is no file of texts: expected one that ends in {', '.join(FORMATS)}.")
    named = [name for name in (text, text_pair, label) if name is not None]
    if named and path.suffix.lower() == ".txt":
        raise DataError(f"{path} has no columns, it has a text in a line: leave {named[0]!r} out.")
    try:
        rows = list(read_rows(path, named if text is not None else ["text", *named]))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise unreadable(path, error, "UTF-8 text") from error
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


def check_labels(texts: Texts, task: Task) -> None:
    """Refuses classes of the texts where the model has none to compare them with."""
    if texts.labels is not None and task != "classification":
        kind = "a reranker" if task == "rerank" else "an embedding model"
        raise ExportError(f"--label is for a classifier, and this is {kind}: leave it out.")


def read_rows(path: Path, columns: list[str] | None) -> Rows:
    """Rows with their numbers.

    Args:
        columns: those of a table that are read; None: all.
    """
    if path.suffix.lower() == ".parquet":
        yield from read_parquet(path, columns)
        return
    with path.open(encoding="utf-8-sig", newline="") as file:
        if path.suffix.lower() == ".csv":
            yield from read_csv(path, file, columns)
        elif path.suffix.lower() == ".jsonl":
            yield from read_jsonl(path, file)
        else:
            yield from ((number, {"text": line}) for number, line in enumerate(file, 1) if line.strip())


def read_parquet(path: Path, columns: list[str] | None) -> Rows:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise DataError(f"{path} needs pyarrow: run `pip install pyarrow`, or convert it to CSV.") from None
    try:
        file = parquet.ParquetDataset(path)
        names = file.schema.names
        check_single(path, names, columns)
        if names and (missing := [name for name in columns or () if name not in names]):
            cell(path, 1, dict.fromkeys(names), missing[0])  # says which there are
        rows = file.read(columns if names else None).to_pylist()
    except UnicodeDecodeError:  # of what claims to be text: the caller asks for UTF-8
        raise
    except (ArrowException, LookupError, ArithmeticError, ValueError) as error:  # of values that Python cannot hold
        why = (str(error).splitlines() or [type(error).__name__])[0].removesuffix(".")
        raise DataError(f"{path} cannot be read ({why}): expected a Parquet file.") from error
    yield from enumerate(rows, 1)
