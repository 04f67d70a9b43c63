"""The baseline of a network that reads tensors: arrays by the names of its inputs, or a table of numbers."""

# R rows

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from export.adopt.texts import FEWEST, read_rows
from model.data.table import unreadable
from runtime.errors import DataError, InvalidInput
from runtime.graph.packing import Tokens
from runtime.graph.tensors import TensorEncoder
from runtime.manifest import TensorInputs, TensorSpec

TABLES = (".csv", ".jsonl", ".parquet")


@dataclass(frozen=True, slots=True)
class Rows:
    """What the baseline is measured on.

    Attributes:
        inputs: rows of all inputs.
        labels: the class of each, where the file has them.
    """

    inputs: list[Tokens]
    labels: list[str] | None


def read_tensor_rows(path: Path, specs: list[TensorSpec], label: str | None) -> Rows:
    """Reads an .npz file with an array for each input, rows first; or a table, whose columns are the only input's.

    Args:
        label: array or column of the class; None where there is none.

    Raises:
        DataError: the file cannot be read, or does not fit the inputs.
    """
    if path.suffix.lower() not in (".npz", *TABLES):
        raise DataError(f"{path} is no file of rows: expected one that ends in .npz, {', '.join(TABLES)}.")
    arrays = read_npz(path) if path.suffix.lower() == ".npz" else read_table(path, specs, label)
    labels = None
    if label is not None:
        if label not in arrays:
            raise DataError(f"{path} has no array {label!r}, it has {', '.join(arrays)}: name yours with --label.")
        labels = [str(value) for value in arrays[label].tolist()]
    known = {spec.name: fitting(path, spec, arrays) for spec in specs}
    try:
        rows = [item.tokens for item in TensorEncoder(TensorInputs(tensors=specs)).encode_arrays(known)]
    except InvalidInput as error:
        raise DataError(f"{path}: {error}") from None
    if len(rows) < FEWEST:
        raise DataError(
            f"{path} has {len(rows)} rows: expected {FEWEST} or more; 300 give a verdict, 1,500 a good one."
        )
    if labels is not None and len(labels) != len(rows):
        raise DataError(f"{path} has {len(labels)} labels of {len(rows)} rows: give one of each.")
    return Rows(rows, labels)


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):  # of an .npy file, whatever it is called
            raise DataError(f"{path} is a single array without a name: write it with numpy.savez, by the input's name.")
        with content:
            return {name: content[name] for name in content.files}
    except (OSError, ValueError, BadZipFile, EOFError, AttributeError) as error:
        raise unreadable(path, error, "what numpy.savez writes, without objects") from None


def read_table(path: Path, specs: list[TensorSpec], label: str | None) -> dict[str, NDArray[Any]]:
    """The columns of a table, in their order, as the only input [R, columns]; those named as the label apart."""
    if len(specs) != 1 or len(specs[0].shape) != 1:
        raise DataError(f"{path} is a table, and the network reads other tensors: give them as arrays in an .npz file.")
    try:
        rows = [row for _, row in read_rows(path, None)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise unreadable(path, error, "a table of numbers") from None
    columns = [name for name in (rows[0] if rows else {}) if name != label]
    try:
        values = np.array([[float(row[name]) for name in columns] for row in rows])
    except OverflowError:
        raise DataError(f"{path} has a number beyond 1.8e308: leave its row out.") from None
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} has more than numbers in its columns ({error}): leave the others out.") from None
    found: dict[str, NDArray[Any]] = {specs[0].name: values}
    if label is not None and rows and label in rows[0]:
        found[label] = np.array([str(row[label]) for row in rows])
    return found


def fitting(path: Path, spec: TensorSpec, arrays: dict[str, NDArray[Any]]) -> NDArray[Any]:
    """The array of an input in its type, which must lose nothing but precision."""
    if spec.name not in arrays:
        raise DataError(f"{path} has no array {spec.name!r}, it has {', '.join(arrays)}: name them as the inputs.")
    values, wanted = arrays[spec.name], np.dtype(spec.dtype)
    if values.dtype.kind not in "iufb" or (wanted.kind in "iub" and values.dtype.kind == "f" and (values % 1).any()):
        raise DataError(f"{path}: {spec.name} is {values.dtype}, expected {spec.dtype}.")
    with np.errstate(over="ignore", invalid="ignore"):  # what becomes infinite is refused
        changed = values.astype(wanted)
    if wanted.kind in "iu" and (changed != values).any():
        raise DataError(f"{path}: {spec.name} has numbers that no {spec.dtype} holds.")
    return changed
