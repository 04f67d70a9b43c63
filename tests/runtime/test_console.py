"""What commands print to."""

import io

import pytest
from rich.progress import Progress
from rich.table import Table

from runtime.console import PlainConsole, described

NAMES = ["[/a]", "[red]", ":heart:", "emb[/x]norm[0]"]


@pytest.mark.parametrize("name", NAMES)
def test_names_are_printed_as_they_are(name: str) -> None:
    console = PlainConsole(file=io.StringIO(), force_terminal=True, color_system=None, width=100)
    table = Table("layer", title=name)
    table.add_row(name)
    console.print(name)
    console.print(table)
    with Progress(described("bold"), console=console) as bar:
        bar.add_task(name)
    assert console.file.getvalue().count(name) >= 4


def test_a_pipe_that_nobody_reads_is_left_to_who_prints() -> None:
    class Closed(io.StringIO):
        def flush(self) -> None:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        PlainConsole(file=Closed()).print("x")
