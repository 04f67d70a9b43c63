"""examples/networks.py shows what it promises."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving import ROOT


@pytest.mark.parametrize("kind", ["image", "table"])
def test_odd_rows_are_told_from_ordinary_ones(kind: str, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "ADDNORM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, ROOT / "examples" / "networks.py", kind, "--out", tmp_path]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    ordinary, odd = (line for line in done.stdout.splitlines() if " rows " in line and "requests" in line)
    assert "as they are: ok" in ordinary and "odd: drift" in odd
    if kind == "table":
        last = done.stdout.splitlines()[-1]
        assert "feature 0 moved most" in last and "told, not judged" in last
