"""Tables that a benchmark measures and a document shows, in blocks that the benchmark itself fills.

A block begins with `<!-- table: NAME -->` and ends with `<!-- end -->`, each on a line of its own.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

END = "<!-- end -->"


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [f"| {' | '.join(line)} |" for line in (header, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(header), *lines[1:]])


def replace_table(text: str, name: str, table: str) -> str:
    """`text` with `table` in its block `name`.

    Raises:
        ValueError: the document has no such block, or several.
    """
    start = f"<!-- table: {name} -->\n"
    if text.count(start) != 1:
        raise ValueError(
            f"The document has {text.count(start)} blocks {start.strip()}, expected one: add or remove some."
        )
    before, rest = text.split(start)
    block, found, after = rest.partition(END)
    if not found or "<!-- table:" in block:
        raise ValueError(f"The block {start.strip()} does not end: add {END} after its table.")
    return f"{before}{start}\n{table}\n\n{END}{after}"


def write_tables(path: Path, tables: Mapping[str, str]) -> None:
    """Fills the blocks of a document, all of them or, where one is missing, none."""
    text = path.read_text()
    for name, table in tables.items():
        text = replace_table(text, name, table)
    path.write_text(text)
