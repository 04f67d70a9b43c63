from pathlib import Path

import pytest

from runtime.words import MOST_CHARACTERS, MOST_NAMES, encodable, is_unicode, lacks, listed, quoted, shortened


@pytest.mark.parametrize(
    ("value", "expected"),
    [("a", "a"), ("a" * 100, "a" * 100), ("a" * 101, "a" * 100 + "…"), ([1, 2], "[1, 2]"), (7, "7")],
)
def test_what_is_short_stays_as_it_is(value: object, expected: str):
    assert shortened(value) == expected


@pytest.mark.parametrize("value", [[1] * 1_000_000, [10**4000] * 5, "é\n" * 50_000, [0] * (MOST_CHARACTERS + 1)])
def test_what_is_long_is_cut(value: object):
    assert len(shortened(value)) == MOST_CHARACTERS + 1 and shortened(value).endswith("…")


@pytest.mark.parametrize(("text", "expected"), [("", True), ("a", True), ("é \U0001f600", True), ("a\udcff", False)])
def test_half_a_surrogate_pair_is_no_unicode(text: str, expected: bool):
    assert is_unicode(text) is expected


def test_names_are_quoted_with_escapes():
    assert quoted("a\n\udcff") == r"'a\n\udcff'"
    assert quoted("b" * 16_000) == f"'{'b' * MOST_CHARACTERS}…'"


def test_many_names_are_counted():
    assert (listed([]), listed({"a": 1, "b": 2})) == ("none", "a, b")
    names = [f"m{number}" for number in range(MOST_NAMES + 1200)]
    assert listed(names) == ", ".join(names[:MOST_NAMES]) + " and 1,200 more"


def test_bytes_of_a_path_that_are_no_text_are_escaped():
    assert encodable("/models/\udcff é") == "/models/\\udcff é"


@pytest.mark.parametrize(
    ("name", "there", "expected"),
    [
        ("a.csv", ["b", "c"], "it has 'b', 'c': name yours with --text"),
        ("a.csv", [], "it has none: name yours with --text"),
        ("a.CSV", ["text;label"], "it has 'text;label': separate columns with commas"),
        ("a.jsonl", ["text;label"], "it has 'text;label': name yours with --text"),
        ("a.parquet", ["text;label"], "it has 'text;label': name yours with --text"),
    ],
)
def test_commas_are_asked_for_only_where_they_separate_columns(name: str, there: list[str], expected: str):
    assert lacks(Path(name), "text", there, "--text") == f"has no column 'text'; {expected}"
