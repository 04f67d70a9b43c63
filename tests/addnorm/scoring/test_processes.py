"""Several processes: how much is held, Ctrl+C, and a process that is killed."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from addnorm.scoring.chunks import Chunk
from addnorm.scoring.processes import AHEAD, score_chunks
from addnorm.scoring.scorer import Options
from addnorm.scoring.tables import Columns
from runtime.artifact import Artifact
from runtime.errors import ArtifactError, SettingError
from tests.helpers import TEXTS
from tests.serving import ROOT, checkout

COUNT = len(TEXTS)


class Supply:
    """Chunks without end, counted as they are taken."""

    def __init__(self) -> None:
        self.taken = 0

    def __iter__(self) -> Iterator[Chunk]:
        while True:
            lines = list(range(1, COUNT + 1))
            yield Chunk("a.csv", "line", self.taken * COUNT + 1, lines, list(lines), list(TEXTS))
            self.taken += 1


def options(artifact: Artifact, digest: str | None = None) -> Options:
    return Options(artifact.path, digest or artifact.manifest.digest, Columns("text"))


def test_few_chunks_are_held_and_a_killed_process_is_told(text_artifact: Artifact):
    supply, held = Supply(), []
    found = iter(score_chunks(supply, options(text_artifact), 2))
    for number in range(20):
        scored = next(found)
        assert scored.chunk.first == number * COUNT + 1 and scored.state.requests == COUNT
        held.append(supply.taken - number)
    assert max(held) <= 2 * AHEAD
    workers = multiprocessing.active_children()
    assert len(workers) == 2
    os.kill(workers[0].pid or 0, signal.SIGKILL)
    with pytest.raises(SettingError, match=r"killed.*--processes"):
        for _ in range(10):
            next(found)
    assert not multiprocessing.active_children()


def test_what_a_process_raises_is_raised_here(text_artifact: Artifact):
    for processes in (1, 2):
        with pytest.raises(ArtifactError, match="replaced meanwhile"):
            next(iter(score_chunks(Supply(), options(text_artifact, "0"), processes)))
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_nothing_half(stop: signal.Signals, text_artifact: Artifact, tmp_path: Path):
    """The rows come through a pipe that does not end, so that the command is in the middle of its work."""
    source, out = tmp_path / "rows.jsonl", tmp_path / "out"
    os.mkfifo(source)
    arguments = [str(source), "--out", str(out), "--model", str(text_artifact.path), "--processes", "2"]
    command = [sys.executable, "-m", "addnorm", "score", *arguments, "--device", "cpu"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # which a shell may have told to ignore it
    process = subprocess.Popen(command, cwd=ROOT, env=checkout(), start_new_session=True, preexec_fn=heed, **pipes)
    with process, source.open("w") as rows:
        for text in TEXTS * 80:
            rows.write(json.dumps({"text": text}) + "\n")
        rows.flush()
        until(lambda: any(file.stat().st_size for file in tmp_path.glob(".out-*/predictions.jsonl")))
        os.killpg(process.pid, stop)  # as a terminal does: all processes get it
        printed, complaint = process.communicate(timeout=20)
    assert (process.returncode, complaint) == (130, "")
    assert printed == f"Interrupted: nothing was written at {out}.\n"
    assert list(tmp_path.iterdir()) == [source]


def until(true: object, seconds: float = 30.0) -> None:
    assert callable(true)
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.02)
