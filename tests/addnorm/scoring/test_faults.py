"""Rows and files that cannot be scored are named, or left out."""

import json
from pathlib import Path

import pytest

from runtime.artifact import Artifact
from tests.addnorm.scoring.files import command, read_csv, read_jsonl, save_jsonl, scored
from tests.addnorm.test_cli import assert_complains, run
from tests.helpers import TEXTS

BAD = {
    "number": ('{"text": 5}', "'text' is a number, expected a text"),
    "null": ('{"text": null}', "'text' is null, expected a text"),
    "nan": ('{"text": NaN}', "'text' is a number, expected a text"),
    "list": ('{"text": ["a", "b"]}', "'text' is a list, expected a text"),
    "empty": ('{"text": " "}', "'text' is empty"),
    "surrogate": ('{"text": "\\ud800"}', "half a surrogate pair"),
    "no object": ("[1]", "this is no JSON object"),
    "no JSON": ('{"text": ', "this is no JSON"),
    "deep": ("[" * 100_000, "this is no JSON"),
    "column": ('{"question": "hi"}', "no column 'text'; it has 'question'"),
    "bytes": (b'{"text": "Z\xfcrich"}', "this is no UTF-8"),
}


@pytest.mark.parametrize(("line", "words"), BAD.values(), ids=BAD)
def test_bad_row_is_named_or_left_out(
    line: str | bytes, words: str, text_artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    source = save_jsonl(tmp_path / "a.jsonl", [{"text": text} for text in TEXTS])
    bad = line if isinstance(line, bytes) else line.encode()
    source.write_bytes(source.read_bytes() + b"\n" + bad + b'\n{"text": "hi"}\n')
    number = len(TEXTS) + 2  # an empty line is none
    out = tmp_path / "out"
    assert_complains(capsys, command(source, out, text_artifact), f"{source}, line {number}: ", words, "--skip-bad")
    assert list(tmp_path.iterdir()) == [source]
    printed = scored(capsys, source, out, text_artifact, "--skip-bad")
    assert f"{len(TEXTS) + 1} rows scored, " in printed and ", 1 skipped, see report.json." in printed
    report = json.loads((out / "report.json").read_text())
    assert report["requests"] == report["scoring"]["scored"] == len(TEXTS) + 1
    (skipped,) = report["scoring"]["skipped_rows"]
    assert (skipped["file"], skipped["line"]) == (str(source), number) and words in skipped["reason"]
    rows = read_jsonl(out / "predictions.jsonl")
    empty = dict.fromkeys(("label", "score", "tokens", "truncated"))
    assert rows[-2] == {"row": len(TEXTS) + 1} | empty and rows[-1]["label"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "has no rows"),
        (b"text\n", "has no rows"),
        (b"question,topic\nhi,x\n", "no column 'text'; it has 'question', 'topic': name yours with --text"),
        (b"text;topic\nhi, you;x\n", "no column 'text'; it has 'text;topic': separate columns with commas"),
        (b"text,text\nhi,x\n", "2 columns 'text'"),
        (b"text,topic\nhi,x\nhi\n", "line 3: there are 1 cells under 2 names"),
        (
            b"topic,text\ngreet,hi\ngreet,Hello, world please\n",
            "line 3: there are 3 cells under 2 names of columns, put quotes around a text with commas; mend it",
        ),
        (b'text,topic\n"hi\nyou",x\n"open', "line 4: this is no CSV (unexpected end of data)"),
        (b"text,topic\nhi,x\nZ\xfcrich,x\n", "line 3: 'text' is no UTF-8"),
        (b'text\n""\n', "line 2: 'text' is empty"),
        (b"\xff\xfet\x00e\x00x\x00t\x00\n\x00", "no column 'text'"),
    ],
)
def test_csv_that_cannot_be_scored_is_one_sentence(
    content: bytes, words: str, text_artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    source = tmp_path / "a.csv"
    source.write_bytes(content)
    assert_complains(capsys, command(source, tmp_path / "out", text_artifact), str(source), words)
    assert list(tmp_path.iterdir()) == [source]


def test_more_cells_than_names_are_a_bad_row(
    text_artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    source = tmp_path / "a.csv"
    source.write_text("topic,text\ngreet,hi\ngreet,Hello, world please\ngreet,you\n")
    assert "2 rows scored, 1 skipped" in scored(capsys, source, tmp_path / "out", text_artifact, "--skip-bad")
    assert [bool(row["label"]) for row in read_csv(tmp_path / "out" / "predictions.csv")] == [True, False, True]


def test_a_lost_quote_ends_the_run_also_with_skip_bad(
    text_artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    source = tmp_path / "a.csv"
    source.write_text("".join(["text\n", *["hi\n"] * 8, '"lost\n', *["hi\n"] * 990]))
    arguments = command(source, tmp_path / "out", text_artifact, "--skip-bad")
    assert_complains(capsys, arguments, f"{source}, line 10: this is no CSV", "quote that opens here is not closed")
    assert list(tmp_path.iterdir()) == [source]


DEEP = "[" * 400 + "]" * 400


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
@pytest.mark.parametrize("key", ['"\\ud800"', '["a", {"\\udfff": 1}]', DEEP], ids=["text", "nested", "deep"])
def test_name_of_a_row_that_cannot_be_written_is_a_bad_row(
    key: str, kind: str, text_artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    source, out = tmp_path / "a.jsonl", tmp_path / "out"
    source.write_text(f'{{"key": "a", "text": "hi"}}\n{{"key": {key}, "text": "hi"}}\n')
    more = ["--id", "key", "--format", kind]
    words = "line 2: 'key' has half a surrogate pair", "--skip-bad"
    assert_complains(capsys, command(source, out, text_artifact, *more), *words)
    assert "1 rows scored, 1 skipped" in scored(capsys, source, out, text_artifact, *more, "--skip-bad")
    rows = (read_jsonl if kind == "jsonl" else read_csv)(out / f"predictions.{kind}")
    assert [row["key"] or None for row in rows] == ["a", None]


def test_name_of_a_row_that_is_no_utf_8_is_a_bad_row(
    text_artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    source, out = tmp_path / "a.csv", tmp_path / "out"
    source.write_bytes(b"key,text\na,hi\nZ\xfcrich,hi\n")
    assert_complains(capsys, command(source, out, text_artifact, "--id", "key"), "line 3: 'key' is no UTF-8")
    scored(capsys, source, out, text_artifact, "--id", "key", "--skip-bad")
    assert [row["key"] for row in read_csv(out / "predictions.csv")] == ["a", ""]


def test_files_of_a_directory_without_rows_are_skipped(
    text_artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder, out = tmp_path / "log", tmp_path / "out"
    folder.mkdir()
    (folder / "a.csv").touch()
    (folder / "b.csv").write_text("text\nhi\n")
    code, _, complaint = run(capsys, *command(folder, out, text_artifact))
    assert (code, complaint) == (0, f"addnorm: {folder / 'a.csv'} has no rows, it was skipped.\n")
    (folder / "c.csv").write_text("text\n")
    code, printed, complaint = run(capsys, *command(folder, out, text_artifact, "--overwrite"))
    assert code == 0 and printed.endswith("1 rows scored.\n")
    assert complaint.startswith(f"addnorm: 2 files have no rows, first {folder / 'a.csv'}; they were skipped")
    scoring = json.loads((out / "report.json").read_text())["scoring"]
    assert scoring["empty_files"] == [str(folder / "a.csv"), str(folder / "c.csv")] and scoring["rows"] == 1


def test_a_link_to_nothing_is_named(text_artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "log"
    folder.mkdir()
    (folder / "a.csv").write_text("text\nhi\n")
    (folder / "b.csv").symlink_to(tmp_path / "gone.csv")
    arguments = command(folder, tmp_path / "out", text_artifact)
    assert_complains(capsys, arguments, f"{folder / 'b.csv'} cannot be read (No such file")
    assert list(tmp_path.iterdir()) == [folder]


def test_rows_of_which_none_can_be_scored_are_no_result(
    text_artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    source = save_jsonl(tmp_path / "a.jsonl", [{"text": 5}, {"text": ""}])
    arguments = command(source, tmp_path / "out", text_artifact, "--skip-bad")
    assert_complains(capsys, arguments, "no row that can be scored", "'text' is a number")


def test_what_cannot_be_used_is_one_sentence(
    text_artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    source, out = save_jsonl(tmp_path / "a.jsonl", [{"text": "hi"}]), tmp_path / "out"
    (tmp_path / "empty").mkdir()
    for name, words in (
        ("gone.csv", "does not exist"),
        ("a.txt", "ends in .csv, .jsonl, .parquet"),
        ("empty", "no file"),
    ):
        assert_complains(capsys, command(tmp_path / name, out, text_artifact), str(tmp_path / name), words)
    assert_complains(capsys, command(source, out, tmp_path / "none"), "No artifact at")
    assert_complains(capsys, command(source, out, text_artifact, "--text-pair", "b"), "leave --text-pair out")
    assert_complains(capsys, command(source, out, text_artifact, "--id", "score"), "--id score", "rename")
    assert_complains(capsys, command(source, source / "out", text_artifact), "cannot be written")
    manifest = text_artifact.manifest.model_copy(update={"inputs": type("Tensors", (), {"kind": "tensors"})()})
    monkeypatch.setattr("runtime.artifact.read_artifact", lambda path: Artifact(path, manifest, {}))
    assert_complains(capsys, command(source, out, text_artifact), "reads tensors", "/v2")
