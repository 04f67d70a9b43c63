import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from export.adopt.texts import FEWEST, FORMATS, read_texts
from runtime.errors import DataError

TEN = [f"text number {number}" for number in range(10)]


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    """Saves lines as a file of this name."""

    def save(name: str, *lines: str, before: str = "") -> Path:
        file = tmp_path / name
        file.write_text(before + "\n".join(lines) + "\n", encoding="utf-8")
        return file

    return save


def jsonl(rows: list[dict[str, Any]]) -> list[str]:
    return [json.dumps(row) for row in rows]


def assert_refused(file: Path, *words: str, **columns: str | None) -> None:
    with pytest.raises(DataError) as caught:
        read_texts(file, columns.pop("text", None), **columns)
    message = str(caught.value)
    assert message.endswith(".") and "\n" not in message
    for word in words:
        assert word in message


def test_a_text_file_has_a_text_in_each_line(saved: Callable[..., Path]):
    texts = read_texts(saved("a.txt", *TEN), None)
    assert (texts.inputs, texts.labels, texts.pairs) == (TEN, None, False)


@pytest.mark.parametrize(("name", "first"), [("A.TXT", ()), ("A.CSV", ("text",))])
def test_endings_in_capitals_are_the_same_formats(saved: Callable[..., Path], name: str, first: tuple[str, ...]):
    assert read_texts(saved(name, *first, *TEN), None).inputs == TEN


def test_empty_lines_and_surrounding_space_are_left_out(saved: Callable[..., Path]):
    lines = [line for text in TEN for line in (f"  {text}\t", "", "   ")]
    assert read_texts(saved("a.txt", *lines), None).inputs == TEN
    rows = [line for row in jsonl([{"text": f" {text} "} for text in TEN]) for line in (row, "")]
    assert read_texts(saved("a.jsonl", *rows), None).inputs == TEN
    assert read_texts(saved("a.csv", "text", *[line for text in TEN for line in (f" {text} ", "")]), None).inputs == TEN


def test_lines_may_end_as_on_windows(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes("\r\n".join(TEN).encode())
    (tmp_path / "a.csv").write_bytes("\r\n".join(["text", *TEN]).encode())
    assert read_texts(tmp_path / "a.txt", None).inputs == read_texts(tmp_path / "a.csv", None).inputs == TEN


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl"])
def test_a_byte_order_mark_is_no_text(saved: Callable[..., Path], name: str):
    lines = {"a.txt": TEN, "a.csv": ["text", *TEN], "a.jsonl": jsonl([{"text": text} for text in TEN])}[name]
    assert read_texts(saved(name, *lines, before="\ufeff"), None).inputs == TEN


@pytest.mark.parametrize("column", [None, "text", "question"])
def test_the_column_of_the_text_is_called_text_unless_it_is_named(saved: Callable[..., Path], column: str | None):
    header = column or "text"
    rows = jsonl([{"other": 1, header: text} for text in TEN])
    assert read_texts(saved("a.jsonl", *rows), column).inputs == TEN
    csv = saved("a.csv", f"other,{header}", *[f'1,"{text}"' for text in TEN])
    assert read_texts(csv, column).inputs == TEN


def test_a_quoted_text_may_hold_commas_and_lines(saved: Callable[..., Path]):
    file = saved("a.csv", "text", *['"one, two\nthree ""four"""'] * 10)
    assert read_texts(file, None).inputs == ['one, two\nthree "four"'] * 10


def test_two_columns_make_pairs(saved: Callable[..., Path]):
    rows = [{"q": f"q {number}", "a": f"a {number}", "text": "not read"} for number in range(10)]
    texts = read_texts(saved("a.jsonl", *jsonl(rows)), "q", "a")
    assert texts.inputs == [[f"q {number}", f"a {number}"] for number in range(10)]
    assert texts.pairs and texts.labels is None


def test_labels_stand_beside_the_texts(saved: Callable[..., Path]):
    rows = [{"text": text, "label": number % 2} for number, text in enumerate(TEN)]
    assert read_texts(saved("a.jsonl", *jsonl(rows)), None, label="label").labels == ["0", "1"] * 5
    file = saved("a.csv", "text,second,label", *[f"{text},x,yes" for text in TEN])
    both = read_texts(file, None, "second", "label")
    assert (both.pairs, both.labels) == (True, ["yes"] * 10)


def test_a_column_that_is_missing_is_named_with_those_that_are_there(saved: Callable[..., Path]):
    rows = [{"question": text, "id": 1} for text in TEN]
    file = saved("a.jsonl", *jsonl(rows))
    assert_refused(file, "line 1", "no column 'text'", "'question', 'id'", "--text")
    assert_refused(file, "no column 'answer'", "'question'", text="question", text_pair="answer")
    assert_refused(file, "no column 'kind'", text="question", label="kind")
    assert_refused(saved("a.csv", "question", *TEN), "line 1", "no column 'text'", "'question'")


@pytest.mark.parametrize("value", ["", "  ", None, [], {}])
def test_an_empty_cell_is_refused_with_its_line(saved: Callable[..., Path], value: Any):
    rows = jsonl([{"text": text, "pair": "x", "label": "y"} for text in TEN])
    for column in ("text", "pair", "label"):
        bad = json.dumps({"text": "a", "pair": "x", "label": "y"} | {column: value})
        file = saved("a.jsonl", *rows[:4], bad, *rows)
        assert_refused(file, "line 5", f"empty '{column}'", text_pair="pair", label="label")


def test_a_short_row_of_csv_is_refused_with_its_line(saved: Callable[..., Path]):
    file = saved("a.csv", "text,label", *[f"{text},y" for text in TEN], "alone")
    assert_refused(file, "line 12", "empty 'label'", label="label")


@pytest.mark.parametrize("count", [0, 1, FEWEST - 1])
def test_too_few_texts_are_refused(saved: Callable[..., Path], count: int):
    assert_refused(saved("a.txt", *TEN[:count]), f"has {count} texts", "10 or more")
    assert_refused(saved("a.csv", "text", *TEN[:count]), f"has {count} texts")


@pytest.mark.parametrize("name", ["a", "a.json", "a.TXT.gz", "a.tsv", ".txt.bak"])
def test_another_kind_of_file_is_refused(saved: Callable[..., Path], name: str):
    assert_refused(saved(name, *TEN), "no file of texts", *FORMATS)


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl"])
def test_what_is_not_utf8_is_refused(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(b"text\n" + "Zürich\n".encode("latin-1") * 10)
    assert_refused(tmp_path / name, name, "UTF-8")


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl"])
def test_a_file_that_is_missing_or_a_directory_is_refused(tmp_path: Path, name: str):
    assert_refused(tmp_path / name, "cannot be read")
    (tmp_path / name).mkdir()
    assert_refused(tmp_path / name, "cannot be read")


@pytest.mark.parametrize(("line", "words"), [("{", "not JSON"), ("[1]", "not a JSON object"), ("5", "JSON object")])
def test_a_line_that_is_no_object_is_refused(saved: Callable[..., Path], line: str, words: str):
    file = saved("a.jsonl", *jsonl([{"text": text} for text in TEN]), line)
    assert_refused(file, "line 11", words)


def test_half_a_surrogate_pair_is_refused(saved: Callable[..., Path]):
    rows = jsonl([{"text": text} for text in TEN])
    assert_refused(saved("a.jsonl", *rows, '{"text": "\\ud800"}'), "line 11", "surrogate")


@pytest.mark.parametrize("column", ["text", "text_pair", "label"])
def test_a_text_file_has_no_columns(saved: Callable[..., Path], column: str):
    assert_refused(saved("a.txt", *TEN), "no columns", "'mine'", **{column: "mine"})


@pytest.mark.skipif(importlib.util.find_spec("pyarrow") is not None, reason="pyarrow is there")
def test_parquet_without_pyarrow_says_what_to_install(saved: Callable[..., Path]):
    assert_refused(saved("a.parquet", *TEN), "pip install pyarrow", "CSV")


def test_columns_of_one_name_are_refused_where_they_are_read(saved: Callable[..., Path]):
    file = saved("a.csv", "text,text,other,other", *[f"{text},b,c,d" for text in TEN])
    assert_refused(file, "has 2 columns named 'text': give each a name of its own")
    assert_refused(file, "has 2 columns named 'other'", text="other")
    single = saved("a.csv", "text,other,other", *[f"{text},c,d" for text in TEN])
    assert read_texts(single, None).inputs == TEN
    assert_refused(single, "has 2 columns named 'other'", label="other")


@pytest.mark.parametrize(("value", "words"), [({"a": 1}, "an object"), (["a"], "a list")])
def test_a_cell_that_is_no_text_is_told_by_its_type(saved: Callable[..., Path], value: Any, words: str):
    rows = jsonl([{"text": text} for text in [*TEN, value]])
    assert_refused(saved("a.jsonl", *rows), f"line 11, has {words} in 'text': write a text")


@pytest.mark.parametrize("text", ["\0", "\u200b", "\u00ad \ufeff", "\u2060\u200d"])
def test_a_text_without_anything_visible_is_refused_with_its_line(saved: Callable[..., Path], text: str):
    assert_refused(saved("a.txt", *TEN, text), "line 11, has nothing visible in 'text'")
    assert_refused(saved("a.csv", "text,x", *[f"{each},y" for each in [*TEN, text]]), "line 12, has nothing visible")
    seen = f"a{text}b"
    assert read_texts(saved("a.txt", *TEN, seen), None).inputs[-1] == seen


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl"])
def test_a_text_may_be_long(saved: Callable[..., Path], name: str):
    long = "word " * 40_000 + "end"
    lines = {"a.txt": [long], "a.csv": ["text", long], "a.jsonl": jsonl([{"text": long}])}[name]
    rest = jsonl([{"text": text} for text in TEN]) if name == "a.jsonl" else TEN
    assert read_texts(saved(name, *lines, *rest), None).inputs == [long, *TEN]


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl"])
def test_a_file_that_does_not_exist_is_told(tmp_path: Path, name: str):
    assert_refused(tmp_path / name, "cannot be read: it does not exist")


def test_a_line_that_is_nested_too_deep_is_refused(saved: Callable[..., Path]):
    deep = '{"text": "a", "x": ' + "[" * 200_000 + "]" * 200_000 + "}"
    assert_refused(saved("a.jsonl", *jsonl([{"text": text} for text in TEN]), deep), "line 11, is not JSON")


def test_of_parquet_only_the_columns_that_are_asked_for_are_read(tmp_path: Path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    odd = arrow.array([1] * 10, arrow.timestamp("us", tz="Mars/Olympus"))  # which no package knows
    parquet.write_table(arrow.table({"text": TEN, "when": odd, "raw": [b"a"] * 10}), tmp_path / "a.parquet")
    assert read_texts(tmp_path / "a.parquet", None).inputs == TEN
    assert_refused(tmp_path / "a.parquet", "cannot be read", "zoneinfo", text="when")
    assert_refused(tmp_path / "a.parquet", "line 1, has bytes in 'raw'", text="raw")
    assert_refused(tmp_path / "a.parquet", "has no column 'other'; it has 'text', 'when', 'raw'", text="other")
    twice = arrow.Table.from_arrays([arrow.array(TEN)] * 2, names=["text", "text"])
    parquet.write_table(twice, tmp_path / "b.parquet")
    assert_refused(tmp_path / "b.parquet", "has 2 columns named 'text'")


def test_values_of_parquet_that_are_no_utf8_are_refused(tmp_path: Path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    latin = arrow.array(["Zürich".encode("latin-1")] * 10).view(arrow.string())
    parquet.write_table(arrow.table({"text": latin}), tmp_path / "a.parquet")
    assert_refused(tmp_path / "a.parquet", "cannot be read", "expected UTF-8 text")
