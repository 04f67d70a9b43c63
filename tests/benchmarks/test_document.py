"""Blocks of a document that benchmarks fill."""

from pathlib import Path

import pytest

from benchmarks.document import END, markdown, replace_table, write_tables

DOCUMENT = f"""# Title

<!-- table: one -->

| old |
|---|

{END}

Between.

<!-- table: two -->
{END}
"""


def test_markdown_has_a_header_and_a_line_a_row() -> None:
    assert markdown(["a", "b"], [["1", "2"], ["3", ""]]) == "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 |  |"


def test_a_table_replaces_its_block_and_nothing_else() -> None:
    written = replace_table(DOCUMENT, "one", "| new |\n|---|")
    assert "| new |" in written
    assert "| old |" not in written
    assert written.split(END, 1)[1] == DOCUMENT.split(END, 1)[1]


def test_writing_the_same_table_again_changes_nothing() -> None:
    written = replace_table(DOCUMENT, "two", "| new |")
    assert replace_table(written, "two", "| new |") == written


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no block", "0 blocks"),
        (DOCUMENT + DOCUMENT, "2 blocks"),
        ("<!-- table: one -->\n| old |\n", "does not end"),
        (f"<!-- table: one -->\n<!-- table: two -->\n{END}", "does not end"),
    ],
)
def test_a_document_without_the_block_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace_table(text, "one", "| new |")


def test_tables_are_written_all_or_none(tmp_path: Path) -> None:
    path = tmp_path / "document.md"
    path.write_text(DOCUMENT)
    with pytest.raises(ValueError, match="0 blocks"):
        write_tables(path, {"one": "| new |", "three": "| new |"})
    assert path.read_text() == DOCUMENT
    write_tables(path, {"one": "| 1 |", "two": "| 2 |"})
    assert "| 1 |" in path.read_text()
    assert "| 2 |" in path.read_text()
