"""Writes what was scored: a directory that is there as a whole, or not at all."""

import csv
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol, TextIO

from addnorm.scoring.parquet import ParquetWriter, answer_types
from addnorm.scoring.processes import held_back
from addnorm.scoring.scorer import Scored
from addnorm.scoring.tables import as_json
from runtime.directories import put_in_place, tidy, written_aside
from runtime.errors import DataError, SettingError

Format = Literal["jsonl", "csv", "parquet"]
PREDICTIONS, REPORT, STATE = "predictions", "report.json", "state.json"
WRITTEN = {REPORT, STATE, *(f"{PREDICTIONS}.{kind}" for kind in ("jsonl", "csv", "parquet"))}


class Writer(Protocol):
    def write(self, rows: list[dict[str, Any]]) -> None: ...
    def close(self) -> None: ...


class JsonlWriter:
    """A JSON object in each line."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("wb")

    def write(self, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            self.file.write(as_json(row) + b"\n")

    def close(self) -> None:
        self.file.close()


class CsvWriter:
    """Comma-separated values, with a header."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.file = path.open("w", encoding="utf-8", newline="")
        # which quotes only what is in its own line end: up to Python 3.12, "\n" would leave a "\r" bare
        self.writer = csv.writer(ShortLines(self.file), lineterminator="\r\n")
        self.writer.writerow(columns)

    def write(self, rows: list[dict[str, Any]]) -> None:
        self.writer.writerows([tell(value) for value in row.values()] for row in rows)

    def close(self) -> None:
        self.file.close()


class ShortLines:
    """A file whose lines end in "\\n", whatever csv.writer ends them with."""

    def __init__(self, file: TextIO) -> None:
        self.file = file

    def write(self, line: str) -> int:
        return self.file.write(line.removesuffix("\r\n") + "\n")


def tell(value: Any) -> Any:
    """A cell of CSV."""
    return str(value).lower() if isinstance(value, bool) else value


class Layout:
    """Which columns the output has.

    Args:
        answers: names of what an answer has.
        name: column that names a row; None: its number.
        several: whether the rows are of several files, so that each names its own.
    """

    def __init__(self, answers: Sequence[str], name: str | None, several: bool) -> None:
        self.names = (*(("file",) if several else ()), name or "row")
        self.answers, self.several = answers, several
        if name in (*answers, *self.names[:-1]):
            raise SettingError(f"--id {name} is the name of a column of the output: rename it in the file.")

    @property
    def columns(self) -> list[str]:
        return [*self.names, *self.answers]

    def rows(self, scored: Scored) -> list[dict[str, Any]]:
        """A row for each of the input; without an answer where it could not be scored."""
        chunk, nothing = scored.chunk, dict.fromkeys(self.answers)
        before = (Path(chunk.file).name,) if self.several else ()
        return [
            dict(zip(self.names, (*before, name), strict=True)) | (answer or nothing)
            for name, answer in zip(chunk.ids, scored.answers, strict=True)
        ]


def open_writer(folder: Path, kind: Format, layout: Layout, types: dict[str, Any]) -> Writer:
    """What writes the predictions.

    Args:
        types: of columns whose Arrow type is known.

    Raises:
        SettingError: the format cannot hold what is written.
        DataError: it needs what is not installed.
    """
    path = folder / f"{PREDICTIONS}.{kind}"
    if kind == "parquet":
        return ParquetWriter(path, answer_types(layout.answers) | types)
    if kind == "jsonl":
        return JsonlWriter(path)
    if lists := [name for name in ("embedding", "top") if name in layout.answers]:
        what = "embeddings" if lists == ["embedding"] else "the classes of --top-k"
        raise SettingError(f"CSV cannot hold {what}, which are lists: pass --format jsonl or parquet.")
    return CsvWriter(path, layout.columns)


def taken(out: Path) -> SettingError:
    return SettingError(f"{out} exists already: name another --out, or pass --overwrite.")


def check_free(out: Path, overwrite: bool) -> None:
    """Raises SettingError where the output would take the place of what must stay."""
    if not (out.exists() or out.is_symlink()):
        return
    if not overwrite:
        raise taken(out)
    if not out.is_dir():
        raise SettingError(f"{out} is no directory that was scored into: name another --out.")
    if others := sorted(each.name for each in out.iterdir() if each.name not in WRITTEN):
        raise SettingError(f"{out} has {others[0]}, which scoring does not write: name another --out.")


@contextmanager
def written_whole(out: Path, overwrite: bool) -> Iterator[Path]:
    """A folder to write to, which takes the place of `out` at the end; on any error, `out` stays as it was.

    Raises:
        SettingError: `out` is there, and must stay.
        DataError: it cannot be written.
    """
    check_free(out, overwrite)
    target = out.resolve()
    tidy(target)
    check_free(out, overwrite)  # what a kill had moved away may be there again
    try:
        with written_aside(target) as folder:
            yield folder
            for file in folder.iterdir():
                flush(file)
            with held_back():  # between two renames nothing would be there
                check_free(out, overwrite)
                if not put_in_place(folder, target, overwrite):
                    raise taken(out)
    except OSError as error:
        raise DataError(f"{out} cannot be written ({error.strerror or error}).") from error


def flush(file: Path) -> None:
    """Waits until the file is on the disk."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
