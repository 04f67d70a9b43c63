"""The rows of a file, or of a directory of files, as a stream of chunks: nothing else of them is held in memory."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from addnorm.scoring.parquet import ParquetReader
from addnorm.scoring.tables import Columns, CsvReader, JsonlReader, Reader, fault_of_id
from runtime.errors import DataError
from runtime.words import is_unicode

READERS: dict[str, type[Reader]] = {".csv": CsvReader, ".jsonl": JsonlReader, ".parquet": ParquetReader}
KINDS = ", ".join(READERS)
CHUNK_ROWS, CHUNK_CHARACTERS = 512, 1 << 20


@dataclass(slots=True)
class Chunk:
    """Consecutive rows of one file.

    Attributes:
        unit: what `lines` counts: line or row.
        first: number of the first row in its file, from 1.
        lines: where each row is in its file.
        values: a text, a pair of texts or a float sequence each; None where there is a fault.
        faults: why rows cannot be scored, by their place in the chunk.
        read: bytes of all files that were read up to its end.
    """

    file: str
    unit: str
    first: int
    lines: list[int] = field(default_factory=list)
    ids: list[Any] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    faults: dict[int, str] = field(default_factory=dict)
    read: int = 0


def find_files(path: Path) -> list[Path]:
    """The file, or the files of a directory in the order of their names; hidden ones are left out.

    Raises:
        DataError: there is none that can be scored.
    """
    if path.is_dir():
        try:
            files = sorted(
                each for each in path.iterdir() if each.suffix.lower() in READERS and each.name[0] not in "._"
            )
        except OSError as error:
            raise unreadable(path, error) from error
        if odd := [each.name for each in files if not is_unicode(each.name)]:
            raise DataError(f"{path} has a file whose name is no Unicode text, {os.fsencode(odd[0])!r}: rename it.")
        if not files:
            raise DataError(f"{path} has no file that ends in {KINDS}: name one, or a directory with some.")
        return files
    if path.suffix.lower() not in READERS:
        raise DataError(f"{path} is no file to score: expected one that ends in {KINDS}, or a directory.")
    if not path.exists():
        raise DataError(f"{path} does not exist: name a file, or a directory of files.")
    return [path]


def sizes(files: Sequence[Path]) -> list[int]:
    """Bytes of each file; raises DataError about one that is not there, such as a link to nothing."""
    found = []
    for path in files:
        try:
            found.append(path.stat().st_size)
        except OSError as error:
            raise unreadable(path, error) from error
    return found


def unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path} cannot be read ({error.strerror or error}): check the file.")


def read_chunks(files: Sequence[Path], columns: Columns) -> Iterator[Chunk]:
    """All rows of the files, in their order, a few hundred at a time.

    Raises:
        DataError: a file cannot be read, or lacks a column; a bad row is a fault of its chunk.
    """
    before = 0
    for path in files:
        reader = READERS[path.suffix.lower()](path, columns)
        try:
            for chunk in gather(reader):
                chunk.read += before
                yield chunk
            before += path.stat().st_size
        except OSError as error:
            raise unreadable(path, error) from error


def gather(reader: Reader) -> Iterator[Chunk]:
    columns, chunk, characters, first = reader.columns, Chunk(str(reader.path), reader.unit, 1), 0, 1
    for row in reader.rows():
        cells, fault = row.cells, row.fault
        value = cells.get(columns.value)
        if columns.pair is not None:
            value = [value, cells.get(columns.pair)]
        name = cells.get(columns.id) if columns.id else first + len(chunk.ids)
        if unfit := fault_of_id(name):  # the predictions have the row, too, but without it
            name, fault = None, fault or f"{columns.id!r} {unfit}"
        if fault is not None:
            chunk.faults[len(chunk.lines)] = fault
            value = None
        chunk.lines.append(row.line)
        chunk.ids.append(name)
        chunk.values.append(value)
        characters += weight(value)
        if len(chunk.lines) >= CHUNK_ROWS or characters >= CHUNK_CHARACTERS:
            chunk.read = reader.read
            yield chunk
            first += len(chunk.lines)
            chunk, characters = Chunk(str(reader.path), reader.unit, first), 0
    if chunk.lines:
        chunk.read = reader.read
        yield chunk


def weight(value: Any) -> int:
    """About how many characters or numbers a value has."""
    return sum(map(weight, value)) if isinstance(value, list) else len(value) if isinstance(value, str) else 1
