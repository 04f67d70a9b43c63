import hashlib
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from model.data import load_dataset
from model.data.dataset import split_rows
from model.data.download import RemoteFile, fetch
from runtime.errors import DataError

CONTENT = b'{"train": []}'


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Callable[[str], RemoteFile]]:
    """Serves CONTENT as data.json on a free local port; the argument is the checksum to expect."""
    public = tmp_path / "public"
    public.mkdir()
    (public / "data.json").write_bytes(CONTENT)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(public))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield lambda sha256: RemoteFile("set/data.json", f"http://127.0.0.1:{httpd.server_port}/data.json", sha256)
    httpd.shutdown()
    httpd.server_close()


def test_fetch_downloads_once_and_checks(server: Callable[[str], RemoteFile], tmp_path: Path) -> None:
    file = server(hashlib.sha256(CONTENT).hexdigest())
    local = fetch(file, tmp_path / "cache")
    assert local.read_bytes() == CONTENT
    elsewhere = RemoteFile(file.path, "http://127.0.0.1:1/gone", file.sha256)
    assert fetch(elsewhere, tmp_path / "cache") == local


def test_fetch_keeps_nothing_of_a_wrong_download(server: Callable[[str], RemoteFile], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing was kept"):
        fetch(server("0" * 64), tmp_path / "cache")
    assert not list((tmp_path / "cache" / "set").iterdir())


def test_fetch_refuses_an_altered_copy_and_leaves_it(server: Callable[[str], RemoteFile], tmp_path: Path) -> None:
    local = tmp_path / "cache" / "set" / "data.json"
    local.parent.mkdir(parents=True)
    local.write_text("mine")
    with pytest.raises(DataError, match="SHA-256"):
        fetch(server(hashlib.sha256(CONTENT).hexdigest()), tmp_path / "cache")
    assert local.read_text() == "mine"


def test_fetch_says_where_to_put_what_cannot_be_downloaded(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="ADDNORM_DATA"):
        fetch(RemoteFile("set/data.json", "http://127.0.0.1:1/gone", "0" * 64), tmp_path)


def test_digits_are_sequences_of_eight_rows(tmp_path: Path) -> None:
    digits = load_dataset("digits", tmp_path)
    assert len(digits.labels) == 10 and not digits.is_text
    assert len(digits.train) + len(digits.validation) + len(digits.test) == 1797
    assert digits.train.inputs[0].shape == (8, 8) and max(x.max() for x in digits.train.inputs) == 1.0


def test_split_is_by_class_and_disjoint() -> None:
    rows = [f"{label} {i}" for label in "ab" for i in range(50)]
    dataset = split_rows("set", "me", rows, [row[0] for row in rows])
    parts = [dataset.train, dataset.validation, dataset.test]
    assert [len(part) for part in parts] == [80, 10, 10]
    assert sorted(text for part in parts for text in part.inputs) == sorted(rows)
    for part in parts:
        assert np.bincount(part.labels).tolist() == [len(part) // 2] * 2
        assert all(dataset.labels[label] == text[0] for text, label in zip(part.inputs, part.labels, strict=True))


def write(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


def test_csv_and_jsonl_give_the_same_data_set(tmp_path: Path) -> None:
    texts = [("a b", "x"), ("c, d", "x"), ("e", "y"), ('f "g"', "y")]
    csv_file = write(tmp_path / "t.csv", 'text,label\na b,x\n"c, d",x\ne,y\n"f ""g""",y\n')
    lines = ['{"text": "a b", "label": "x"}', '{"text": "c, d", "label": "x"}', "", '{"text": "e", "label": "y"}']
    jsonl = write(tmp_path / "t.jsonl", "\n".join([*lines, '{"text": "f \\"g\\"", "label": "y"}']))
    for path in (csv_file, jsonl):
        dataset = load_dataset(str(path), tmp_path)
        found = [
            (text, dataset.labels[label])
            for part in (dataset.train, dataset.validation, dataset.test)
            for text, label in zip(part.inputs, part.labels, strict=True)
        ]
        assert sorted(found) == sorted(texts)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "", "no rows"),
        ("t.csv", "question,label\na,x\n", "line 1, has no column 'text'; it has 'question', 'label': name yours with"),
        (
            "t.csv",
            "text;label\na, b;x\n",
            "line 1, has no column 'text'; it has 'text;label': separate columns with co",
        ),
        ("t.csv", "text\tlabel\na\tx\n", "separate columns with commas"),
        ("t.jsonl", '{"text;label": "a", "label": "x"}', "line 1, has no column 'text'.*name yours with --text"),
        ("t.jsonl", '{"text;label": "a"}', "line 1, has no column 'text'; it has 'text;label': name yours with --text"),
        ("t.csv", "text,label\na,x\nb,\n", "line 3, has an empty 'label'"),
        ("t.csv", "text,label\na,x\nb\n", "line 3, has an empty 'label'"),
        ("t.csv", "text,label\na,x\nb,x\n", "has 1 class"),
        ("t.csv", "text,label\na,x\nb,x\nc,lonely\n", "single row, 'lonely'"),
        ("t.jsonl", "{", "line 1, is not JSON"),
        ("t.jsonl", "[1]", "line 1, is not a JSON object"),
        ("t.csv", "text,label,label\na,x,y\nb,x,y\n", "has 2 columns named 'label': give each a name of its own"),
        ("t.csv", "text,label\na,x\nb, c,x\n", "line 3, has 3 cells where the header has 2: put a text with commas in"),
        ("t.csv", 'text,label\na,x\n"b,x\nc,y\nd,y\n', "no CSV from line 3 on .*: close each quote"),
        ("t.csv", 'text,label\na,x\n"b" ,x\nc,y\n', "no CSV from line 3 on .*right before a comma"),
        ("t.jsonl", '{"text": "a", "label": NaN}', "line 1, has nan in 'label', which is no value"),
        ("t.csv", "text,label\na,x\n\0,x\n", "line 3, has nothing visible in 'text'"),
        ("t.jsonl", '{"text": ["a"], "label": "x"}', "line 1, has a list in 'text': write a text"),
        ("t.jsonl", '{"text": {"a": 1}, "label": "x"}', "line 1, has an object in 'text'"),
        ("t.jsonl", '{"text": ' + "[" * 200_000, "line 1, is not JSON"),
        ("t.jsonl", '{"text": "a \\ud800", "label": "x"}', "surrogate"),
        ("t.parquet", "", "is not a data set"),
    ],
)
def test_unusable_file_is_refused_in_one_sentence(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_dataset(str(write(tmp_path / name, content)), tmp_path)


def test_endings_in_capitals_are_the_same_formats(tmp_path: Path) -> None:
    rows = [("a", "x"), ("b", "x"), ("c", "y"), ("d", "y")]
    table = write(tmp_path / "MY.CSV", "text,label\n" + "".join(f"{text},{label}\n" for text, label in rows))
    lines = [json.dumps({"text": text, "label": label}) for text, label in rows]
    for path in (table, write(tmp_path / "My.JsonL", "\n".join(lines))):
        assert load_dataset(str(path), tmp_path).labels == ["x", "y"]


def test_unreadable_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "binary.csv").write_bytes(b"text,label\n\xff\xfe\n")
    for name, why in (("absent.csv", ": it does not exist"), ("binary.csv", r" \(.*\): expected UTF-8 CSV")):
        with pytest.raises(DataError, match=f"{name} cannot be read{why}"):
            load_dataset(str(tmp_path / name), tmp_path)


def test_a_field_of_csv_may_be_long(tmp_path: Path) -> None:
    long = "word " * 40_000
    rows = "".join(f"{text} {label},{label}\n" for label in "xy" for text in ("a", "b", long))
    dataset = load_dataset(str(write(tmp_path / "t.csv", f"text,label\n{rows}")), tmp_path)
    assert max(len(text) for part in (dataset.train, dataset.validation, dataset.test) for text in part.inputs) > 131072
