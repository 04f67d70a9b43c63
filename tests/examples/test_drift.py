"""examples/drift.py shows what it promises."""

import os
import subprocess
import sys
from pathlib import Path

from tests.serving import ROOT


def test_verdict_changes_from_ok_to_drift_once_digits_are_turned(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "ADDNORM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, ROOT / "examples" / "drift.py", "--out", tmp_path, "--epochs", "12"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if " ordinary " in line or " odd " in line]
    verdicts = {kind: [row[2] for row in rows if row[1] == kind] for kind in ("ordinary", "odd")}
    assert verdicts["ordinary"][:2] == ["insufficient"] * 2
    assert set(verdicts["ordinary"][2:]) == {"ok"}
    assert verdicts["odd"][-1] == "drift"
    assert (tmp_path / "drift.png").read_bytes().startswith(b"\x89PNG")
    assert "Warning" not in done.stderr


def test_data_that_are_not_there_are_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "clinc150").mkdir()
    (tmp_path / "clinc150" / "data_full.json").write_text("{}")
    command = [sys.executable, ROOT / "examples" / "drift.py", "--data", tmp_path, "--out", tmp_path]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "expected 36923c3705a5" in done.stderr and "Traceback" not in done.stderr
