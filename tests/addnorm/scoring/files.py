"""Files to score, and what became of them."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from runtime.artifact import Artifact
from tests.addnorm.test_cli import run


def save_jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def save_csv(path: Path, rows: list[list[Any]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def read_csv(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def command(source: Path, out: Path, artifact: Artifact | Path, *more: str) -> list[str]:
    model = artifact if isinstance(artifact, Path) else artifact.path
    options = ["--model", str(model), "--device", "cpu", *([] if "--processes" in more else ["--processes", "1"])]
    return ["score", str(source), "--out", str(out), *options, *more]


def scored(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    """What is printed; the rows of the table are as wide as they need."""
    code, out, complaint = run(capsys, *command(*arguments))
    assert (code, complaint) == (0, "")
    return out
