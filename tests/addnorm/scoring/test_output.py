"""The output is there as a whole, or not at all."""

from pathlib import Path

import pytest

from addnorm.scoring import chunks
from runtime.artifact import Artifact
from tests.addnorm.scoring.files import command, read_csv, read_jsonl, save_jsonl, scored
from tests.addnorm.test_cli import assert_complains, run


def test_output_is_replaced_only_if_that_is_asked_for_and_works(
    text_artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    source, out = save_jsonl(tmp_path / "a.jsonl", [{"text": "hi"}] * 3), tmp_path / "out"
    arguments = command(source, out, text_artifact)
    assert run(capsys, *arguments)[0] == 0
    before = {each.name: each.read_bytes() for each in out.iterdir()}
    assert_complains(capsys, arguments, "exists already", "--overwrite")
    monkeypatch.setattr(chunks, "CHUNK_ROWS", 2)
    save_jsonl(source, [*[{"text": "hi"}] * 3, {"text": 5}])
    assert_complains(capsys, [*arguments, "--overwrite"], "line 4")
    with monkeypatch.context() as patch:
        patch.setattr("addnorm.scoring.job.all_layers", lambda *_: interrupt())
        code, printed, complaint = run(capsys, *arguments, "--overwrite", "--skip-bad")
    assert (code, complaint) == (130, "")
    assert printed == f"Interrupted: what was there is as it was at {out}.\n"
    assert {each.name: each.read_bytes() for each in out.iterdir()} == before
    assert sorted(tmp_path.iterdir()) == [source, out]
    assert run(capsys, *arguments, "--overwrite", "--skip-bad")[0] == 0
    assert len(read_jsonl(out / "predictions.jsonl")) == 4
    (out / "mine.txt").touch()
    assert_complains(capsys, [*arguments, "--overwrite"], "has mine.txt, which scoring does not write")


def test_line_ends_in_cells_of_csv_read_back(
    text_artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    keys = ["a\rb", "a\nb", "a\r\nb", "\r", 'a "b", c', "plain"]
    source = save_jsonl(tmp_path / "a.jsonl", [{"text": "hi", "key": key} for key in keys])
    scored(capsys, source, tmp_path / "out", text_artifact, "--id", "key", "--format", "csv")
    written = tmp_path / "out" / "predictions.csv"
    assert [row["key"] for row in read_csv(written)] == keys
    lines = written.read_bytes().split(b"\n")
    assert lines[0] == b"key,label,score,tokens,truncated" and lines[-2].startswith(b"plain,") and lines[-1] == b""


def interrupt() -> None:
    raise KeyboardInterrupt
