"""Parquet, read and written by pyarrow, which only those need who have such files."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from addnorm.scoring.tables import Columns, Reader, Row
from runtime.errors import DataError

BATCH_ROWS = 512
HELD_CHUNKS = 64  # about 30,000 rows, which memory holds


def arrow() -> Any:
    """The modules pyarrow and pyarrow.parquet; raises DataError where they are not installed."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise DataError("Parquet needs pyarrow: run `pip install pyarrow`, or take CSV or JSON lines.") from None
    return pyarrow, parquet


class ParquetReader(Reader):
    """Rows of a Parquet file, a few hundred at a time, whatever the size of its row groups."""

    unit = "row"

    def rows(self) -> Iterator[Row]:
        pyarrow, parquet = arrow()
        names, number, size = self.columns.names, 0, self.path.stat().st_size
        try:
            with parquet.ParquetFile(self.path) as file:
                self.check_columns(file.schema_arrow.names)
                count = file.metadata.num_rows
                for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=names, use_threads=False):
                    columns = [cells(batch.column(name)) for name in names]
                    for values in zip(*columns, strict=True):
                        number += 1
                        self.read = size * number // count
                        odd = [name for name, value in zip(names, values, strict=True) if isinstance(value, Unreadable)]
                        fault = f"{odd[0]!r} is no UTF-8" if odd else None
                        found = [None if isinstance(value, Unreadable) else value for value in values]
                        yield Row(number, dict(zip(names, found, strict=True)), fault)
        except (pyarrow.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DataError(
                f"{self.path} cannot be read after row {number} ({reason}): expected a Parquet file."
            ) from error


class Unreadable:
    """In the place of a text that is no UTF-8."""


def cells(column: Any) -> list[Any]:
    """The values of a column, as Python has them."""
    try:
        return column.to_pylist()  # type: ignore[no-any-return]
    except UnicodeDecodeError:
        return [cell(value) for value in column]


def cell(value: Any) -> Any:
    try:
        return value.as_py()
    except UnicodeDecodeError:
        return Unreadable()


def id_type(path: Path, columns: Columns) -> Any:
    """The type of the column that names rows; None where `path` has none, is no Parquet file, or does not say."""
    if columns.id is None or path.suffix.lower() != ".parquet":
        return None
    pyarrow, parquet = arrow()
    try:
        schema = parquet.read_schema(path)
    except (pyarrow.ArrowException, OSError):
        return None  # reading it says why
    found = schema.field(columns.id).type if columns.id in schema.names else None
    return None if found == pyarrow.null() else found


def answer_types(answers: Sequence[str]) -> dict[str, Any]:
    """The types of what an answer has: a chunk of bad rows has none to tell them by."""
    pyarrow, _ = arrow()
    label, score = pyarrow.string(), pyarrow.float64()
    types = {
        "label": label,
        "score": score,
        "embedding": pyarrow.list_(pyarrow.field("element", score)),
        "tokens": pyarrow.int64(),
        "truncated": pyarrow.bool_(),
        "top": pyarrow.list_(pyarrow.field("element", pyarrow.struct({"label": label, "score": score}))),
    }
    return {name: types[name] for name in answers}


class ParquetWriter:
    """Writes rows with these columns, chunk after chunk.

    Args:
        types: Arrow types of columns, by name; those of the others follow from their first value. Chunks before it are
            held back, but HELD_CHUNKS at most: the column is then one of texts.
    """

    def __init__(self, path: Path, types: dict[str, Any]) -> None:
        self.path, self.types = path, types
        self.pyarrow, self.parquet = arrow()
        self.writer: Any = None
        self.held: list[Any] = []

    def write(self, rows: list[dict[str, Any]]) -> None:
        """Raises DataError where a column's values have several types."""
        pyarrow = self.pyarrow
        try:
            columns = {name: pyarrow.array([row[name] for row in rows], self.types.get(name)) for name in rows[0]}
        except (pyarrow.ArrowException, OverflowError) as error:
            reason = str(error).splitlines()[0]
            raise DataError(
                f"{self.path.name} cannot hold such values ({reason}): write another --format, or leave --id out."
            ) from error
        known = {name: column.type for name, column in columns.items() if not pyarrow.types.is_null(column.type)}
        self.types = {**self.types, **known}
        self.held.append(pyarrow.table(columns))
        if len(known) == len(columns) or len(self.held) >= HELD_CHUNKS:
            self.flush()

    def flush(self) -> None:
        """Writes what was held back."""
        if not self.held:
            return
        if self.writer is None:
            self.types = {name: self.types.get(name, self.pyarrow.string()) for name in self.held[0].column_names}
            self.writer = self.parquet.ParquetWriter(self.path, self.pyarrow.schema(list(self.types.items())))
        for table in self.held:
            self.writer.write_table(table.cast(self.writer.schema))  # of a column without values, null becomes its type
        self.held = []

    def close(self) -> None:
        try:
            self.flush()
        finally:
            if self.writer is not None:
                self.writer.close()
