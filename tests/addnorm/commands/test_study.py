"""`addnorm study`, as a reader of the document runs it."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from addnorm.cli import main
from tests.serving import ROOT, checkout


def study(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "addnorm", "study", *options]
    return subprocess.run(command, cwd=ROOT, env=checkout(), capture_output=True, text=True, timeout=200)


def test_a_claim_is_run_kept_and_written_and_not_run_again(tmp_path: Path) -> None:
    options = ("--only", "C3", "--results", str(tmp_path / "results"), "--document", str(tmp_path / "study.md"))
    done = study(*options, "--processes", "1")
    assert done.returncode == 0, done.stderr
    assert "exploratory" in done.stdout and (tmp_path / "results" / "C3.json").exists()
    text = (tmp_path / "study.md").read_text()
    assert "[C3](#c3-" in text and "(img/study/C3.svg)" in text and (tmp_path / "img" / "study" / "C3.svg").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--only", "C99"], "only names C99, which is no claim: expected some of C"),
        (["--only", "mine"], "only is not usable"),
        (["--quick", "--full"], "--quick and --full are both there"),
    ],
)
def test_what_cannot_be_run_is_told_in_one_sentence(
    options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["study", *options]) == 2
    complaint = capsys.readouterr().err
    assert words in complaint and len(complaint.splitlines()) == 1


def test_a_cell_alone_is_printed_and_not_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT)
    assert main(["study", "--only", "C3", "--one", "--results", str(tmp_path)]) == 0
    assert "training_64" in capsys.readouterr().out and not list(tmp_path.iterdir())
    assert signal.getsignal(signal.SIGINT) is before  # so that Ctrl+C ends it


def test_a_file_that_does_not_fit_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "C3.json").write_text('{"version": 0, "revision": 1, "cells": []}')
    assert main(["study", "--only", "C3", "--results", str(tmp_path)]) == 2
    assert "has format 0, expected 1: move it away" in capsys.readouterr().err


def test_without_its_data_a_claim_is_told_and_the_others_are_run_and_written(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("no folder")
    options = ("--only", "C18,C3", "--results", str(tmp_path / "results"), "--document", str(tmp_path / "study.md"))
    done = study(*options, "--processes", "1", "--data", str(tmp_path / "data"))
    assert done.returncode == 2
    assert "addnorm: C18: " in done.stderr and "name another folder with --data" in done.stderr
    text = (tmp_path / "study.md").read_text()
    assert "[C3](#c3-" in text and "| C18 | Place of BatchNorm, and dropout | not run yet |" in text
