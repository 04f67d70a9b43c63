"""Outside judges of windows of traffic: scipy's Kolmogorov-Smirnov test, and Evidently in an environment of its own.

A judge says of each window whether it raises an alarm, from nothing but its numbers and the validation data's.
"""

# R validation requests, n requests of a window, K columns, L norm layers, W windows

import json
import os
import subprocess
import tempfile
import venv
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ks_2samp

from runtime.drift.numbers import Floats

LEVEL = 0.01  # false alarms that a judge may raise, over all its columns together
ROOT = Path(__file__).parents[2]
PINS, FOLDER = ROOT / "requirements" / "bench-evidently.txt", ROOT / ".bench" / "evidently"
SCRIPT = Path(__file__).with_name("evidently_alarms.py")

Judge = Callable[[Sequence[Floats], Floats], NDArray[np.bool_]]  # windows [n, K], validation [R, K] -> alarms [W]


def column_groups(layers: int, columns: int) -> dict[str, slice]:
    """Which of a request's numbers come from the norms and which from the output (runtime/drift/numbers.py)."""
    assert columns == 2 * layers + 5, f"{columns} columns of {layers} layers: request_features has changed"
    return {"input": slice(0, 2), "norms": slice(2, 2 * layers + 2), "output": slice(2 * layers + 2, columns)}


def outside_judges(layers: int, columns: int) -> dict[str, Judge]:
    """Every judge that needs nothing installed, by its column in the table."""
    groups = column_groups(layers, columns)
    return {f"KS, {name}": partial(ks, columns=groups[name]) for name in ("output", "norms", "input")}


def evidently_judges(columns: int) -> dict[str, Judge]:
    """Evidently's preset as it comes, and with KS tests that share LEVEL over the columns."""
    python = evidently_python()
    return {
        "Evidently, preset": partial(evidently, python=python, options={}),
        "Evidently, KS": partial(evidently, python=python, options=any_column(columns)),
    }


def any_column(columns: int) -> dict[str, object]:
    """The preset's options for an alarm at a single column, Bonferroni over columns."""
    return {"num_method": "ks", "num_threshold": LEVEL / columns, "drift_share": 1 / columns}


def ks(windows: Sequence[Floats], validation: Floats, columns: slice = slice(None)) -> NDArray[np.bool_]:
    """Two-sample Kolmogorov-Smirnov tests of each column, Bonferroni over columns."""
    theirs = validation[:, columns].T
    level = LEVEL / len(theirs)
    return np.array(
        [any(ks_2samp(x, y).pvalue < level for x, y in zip(w[:, columns].T, theirs, strict=True)) for w in windows]
    )


def evidently(
    windows: Sequence[Floats], validation: Floats, python: Path, options: dict[str, object]
) -> NDArray[np.bool_]:
    """Evidently's data drift preset over all columns.

    Args:
        python: the interpreter of an environment with Evidently.
        options: the preset's own, where they are not its defaults.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "windows.npz"
        sizes = np.array([len(window) for window in windows])
        np.savez(path, validation=validation, windows=np.concatenate(windows), sizes=sizes)
        answer = subprocess.run(
            [str(python), "-I", str(SCRIPT), str(path), json.dumps(options)],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"DO_NOT_TRACK": "1"},  # Evidently reports its use unless told not to
        )
    return np.array(json.loads(answer.stdout), dtype=bool)


def evidently_python() -> Path:
    """The interpreter of Evidently's environment, which is made on demand and again where its pins change."""
    python, stamp = FOLDER / "bin" / "python", FOLDER / PINS.name
    if not stamp.exists() or stamp.read_text() != PINS.read_text():
        print(f"installing Evidently into {FOLDER}, about a gigabyte")
        venv.create(FOLDER, clear=True, with_pip=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, "--require-hashes", "--no-deps", "-r", str(PINS)], check=True)
        stamp.write_text(PINS.read_text())
    return python
