"""Cells that were run, kept as JSON: one file a claim, so that a study goes on where it stopped."""

import json
import math
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from runtime.errors import DataError
from studies.claim import Cell, Claim, Measures, Results

VERSION = 1
KEPT = Path(__file__).parent / "results"


class Cells:
    """The file of one claim.

    Args:
        folder: where it lies, or will.

    Raises:
        DataError: the file is of another version, or no such file at all.
    """

    def __init__(self, claim: Claim, folder: Path = KEPT) -> None:
        self.claim, self.path = claim, folder / f"{claim.number}.json"
        self.results = Results(self._read() if self.path.exists() else {})
        self.changed, self.saved = False, time.monotonic()

    def _read(self) -> dict[Cell, Measures]:
        again = f"move it away, and run `addnorm study --only {self.claim.number}` again."
        try:
            document = json.loads(self.path.read_text())
            version, revision = document["version"], document["revision"]
            rows = document["cells"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{self.path} cannot be read ({error}): {again}") from error
        if version != VERSION:
            raise DataError(f"{self.path} has format {version}, expected {VERSION}: {again}")
        if revision != self.claim.revision:
            raise DataError(
                f"{self.path} holds cells of revision {revision} of {self.claim.number}, which is "
                f"{self.claim.revision} now: {again}"
            )
        try:
            return {Cell.of(row["seed"], **row["setting"]): from_json(row["measures"]) for row in rows}
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{self.path} has a cell that is none ({error!r}): {again}") from error

    def add(self, cell: Cell, measures: Measures) -> None:
        self.results.cells[cell] = measures
        self.changed = True

    def save_changes(self) -> None:
        """Writes the file anew; what was there stays until the new one is whole.

        Raises:
            DataError: it cannot be written.
        """
        if not self.changed:
            return
        rows = [
            {"setting": dict(cell.setting), "seed": cell.seed, "measures": to_json(measures)}
            for cell, measures in sorted(self.results.cells.items(), key=lambda item: item[0].key)
        ]
        head = {"version": VERSION, "claim": self.claim.number, "revision": self.claim.revision}
        lines = ",\n".join(json.dumps(row, allow_nan=False) for row in rows)
        text = json.dumps(head)[:-1] + f', "cells": [\n{lines}\n]}}\n'
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.path, text)
        except OSError as error:
            raise DataError(
                f"{self.path} cannot be written ({error.strerror}): make room, and run the command again; "
                "what was kept before is unharmed."
            ) from error
        self.changed, self.saved = False, time.monotonic()


def write_whole(path: Path, text: str) -> None:
    """Writes a file that is either the old one or the new one."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except OSError:
        with suppress(OSError):
            Path(name).unlink()
        raise


def to_json(measures: Measures) -> dict[str, Any]:
    """Measures without NaN and infinities, which JSON has not; five digits are more than a seed repeats."""

    def number(value: float) -> float | str:
        return float(f"{value:.6g}") if math.isfinite(value) else str(value)

    return {
        name: [number(each) for each in value] if isinstance(value, list) else number(value)
        for name, value in measures.items()
    }


def from_json(measures: dict[str, Any]) -> Measures:
    return {
        name: [float(each) for each in value] if isinstance(value, list) else float(value)
        for name, value in measures.items()
    }
