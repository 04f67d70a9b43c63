"""What commands print to: every text as it is, since classes, layers and directories may be called [red] or :heart:."""

from typing import Any

from rich.console import Console
from rich.progress import TextColumn


class PlainConsole(Console):
    """A console that reads no markup, in tables neither; takes the other options of Rich's."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def on_broken_pipe(self) -> None:
        """Leaves it to `addnorm.cli`; Rich would exit with 1, and whoever prints could not save first."""
        raise  # Rich calls this while it handles the error


def described(style: str = "none") -> TextColumn:
    """The column of a progress bar that says what is done, as it is."""
    return TextColumn("{task.description}", style=style, markup=False)
