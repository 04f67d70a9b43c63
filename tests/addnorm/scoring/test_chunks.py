"""Rows as a stream: the memory that scoring takes does not grow with the file."""

import json
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from addnorm.cli import main
from addnorm.scoring import chunks, tables
from addnorm.scoring.chunks import find_files, read_chunks
from addnorm.scoring.tables import Columns
from runtime.artifact import Artifact
from runtime.errors import DataError
from tests.helpers import TEXTS
from tests.serving import ROOT, checkout

LONG = "x" * 4000  # of an id, so that a file of few rows is large


def save(path: Path, count: int) -> Path:
    """About 4 kB a row."""
    with path.open("w") as file:
        if path.suffix == ".csv":
            file.write("key,text\n")
        for number in range(count):
            key, text = f"{LONG}{number}", TEXTS[number % len(TEXTS)]
            file.write(f"{key},{text}\n" if path.suffix == ".csv" else json.dumps({"key": key, "text": text}) + "\n")
    return path


def test_endings_in_capitals_are_the_same_formats(tmp_path: Path):
    upper = save(tmp_path / "a.csv", 2).rename(tmp_path / "A.CSV")
    assert find_files(upper) == find_files(tmp_path) == [upper]
    (chunk,) = read_chunks([upper], Columns("text", None, "key"))
    assert chunk.values == list(TEXTS[:2])


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_memory_does_not_grow_with_the_file(
    kind: str,
    text_artifact: Artifact,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setattr(chunks, "CHUNK_ROWS", 64)
    sources = [save(tmp_path / f"{count}.{kind}", count) for count in (64, 256, 1024)]  # the first one warms up
    options = ["--model", str(text_artifact.path), "--device", "cpu", "--processes", "1", "--id", "key"]
    peaks = []
    for source in sources:
        tracemalloc.start()
        assert main(["score", str(source), "--out", str(tmp_path / f"out-{source.stem}"), *options]) == 0
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    capsys.readouterr()
    more = sources[2].stat().st_size - sources[1].stat().st_size
    assert more > 3_000_000
    assert peaks[2] - peaks[1] < more / 10


def test_a_file_whose_name_is_no_unicode_is_refused_before_anything_is_scored(tmp_path: Path):
    (tmp_path / "a.csv").write_text("text\nhi\n")
    try:
        save(tmp_path / b"b\xff.csv".decode(errors="surrogateescape"), 1)
    except OSError:
        pytest.skip("file names have to be UTF-8 here")
    with pytest.raises(DataError, match=r"has a file whose name is no Unicode text, b'b\\xff.csv': rename it"):
        chunks.find_files(tmp_path)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_file_is_read_as_it_is_needed(kind: str, tmp_path: Path):
    source = save(tmp_path / f"a.{kind}", 3000)
    found = read_chunks([source], Columns("text"))
    first = next(found)
    assert len(first.values) == chunks.CHUNK_ROWS and first.read < source.stat().st_size / 4
    rest = [first, *found]
    assert [chunk.first for chunk in rest] == [1 + chunks.CHUNK_ROWS * n for n in range(len(rest))]
    assert sum(len(chunk.values) for chunk in rest) == 3000
    reads = [chunk.read for chunk in rest]
    assert reads == sorted(reads) and reads[-1] == source.stat().st_size


def test_long_texts_make_short_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(chunks, "CHUNK_CHARACTERS", 100)
    source = tmp_path / "a.jsonl"
    source.write_text('{"text": "' + "y" * 60 + '"}\n' + '{"text": "a"}\n' * 500)
    source.write_text(('{"text": "' + "y" * 60 + '"}\n') * 6)
    assert [len(chunk.values) for chunk in read_chunks([source], Columns("text"))] == [2, 2, 2]


def test_lines_and_cells_without_end_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tables, "LINE_BYTES", 1000)
    monkeypatch.setattr(tables, "CELL_CHARACTERS", 1000)
    lines, cells = tmp_path / "a.jsonl", tmp_path / "a.csv"
    lines.write_text('{"text": "hi"}\n[' + "1," * 1000)
    with pytest.raises(DataError, match="line 2, is longer than"):
        list(read_chunks([lines], Columns("text")))
    cells.write_text('text\nhi\n"' + "lost quote\n" * 1000)
    with pytest.raises(DataError, match="line 3: this is no CSV"):
        list(read_chunks([cells], Columns("text")))
    cells.write_text("text\nhi\n" + "x" * 2000 + "\nhi\n")
    (chunk,) = read_chunks([cells], Columns("text"))
    assert chunk.lines == [2, 3, 4] and list(chunk.faults) == [1]


@pytest.mark.parametrize(
    ("lines", "where"),
    [
        (['"lost', *["hi"] * 50], "line 4: .*unexpected end of data"),
        (['"lost', *["hi"] * 50, '"good",x', "hi"], "line 4: .*',' expected after '\"'"),
        (['"lost'], "line 4: .*unexpected end of data"),
    ],
)
def test_a_lost_quote_is_a_fault_of_the_file(lines: list[str], where: str, tmp_path: Path):
    source = tmp_path / "a.csv"
    source.write_text("\n".join(["text", "hi", "hi", *lines]) + "\n")
    with pytest.raises(DataError, match=where):
        list(read_chunks([source], Columns("text")))


def test_a_fault_within_a_line_of_csv_takes_no_other_row_along(tmp_path: Path):
    source = tmp_path / "a.csv"
    source.write_text('text\n"one" more\nhi\n')
    (chunk,) = read_chunks([source], Columns("text"))
    assert chunk.lines == [2, 3] and list(chunk.faults) == [0]


def test_lines_are_where_an_editor_shows_them(tmp_path: Path):
    source = tmp_path / "a.csv"
    source.write_bytes(b'\xef\xbb\xbftext,other\r\n"one\r\ntwo",x\r\n\r\nthree,x\r\n')
    (chunk,) = read_chunks([source], Columns("text"))
    assert (chunk.lines, chunk.values, chunk.ids) == ([2, 5], ["one\r\ntwo", "three"], [1, 2])
    source = tmp_path / "b.jsonl"
    source.write_bytes(b'\xef\xbb\xbf{"text": "a"}\n\n  \n{"text": "b"}')
    (chunk,) = read_chunks([source], Columns("text"))
    assert (chunk.lines, chunk.values, chunk.ids) == ([1, 4], ["a", "b"], [1, 2])


def test_scoring_loads_neither_torch_nor_pyarrow(text_artifact: Artifact, tmp_path: Path):
    source = save(tmp_path / "a.csv", 3)
    code = (
        "import sys; from addnorm.cli import main; code = main(sys.argv[1:]); "
        "print(code, {'torch', 'pyarrow', 'model', 'export', 'fastapi'} & sys.modules.keys() or 'none')"
    )
    options = [
        "--out",
        str(tmp_path / "out"),
        "--model",
        str(text_artifact.path),
        "--device",
        "cpu",
        "--processes",
        "1",
    ]
    command = [sys.executable, "-c", code, "score", str(source), *options]
    done = subprocess.run(command, cwd=ROOT, env=checkout(), capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 none"
