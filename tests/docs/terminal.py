"""The commands of the documents, and a terminal that runs them as a reader would."""

import os
import re
import shlex
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple, Self

from tests.serving import ROOT, checkout, served

BLOCK = re.compile(r"^```sh\n(.*?)^```", re.M | re.S)
COMMENT = re.compile(r"\s+#\s.*$")
EXPECTED = "# → "  # in a comment: what the command prints, among other things
ADDRESS = re.compile(r"(?:localhost|127\.0\.0\.1):8000")


class Command(NamedTuple):
    """One command of a document.

    Attributes:
        expected: what it prints, among other things; empty where that is not said.
    """

    text: str
    expected: str = ""


def commands(document: Path) -> list[Command]:
    """The commands of a document's `sh` blocks; of a block with prompts, only the lines that have one."""
    found = []
    for block in BLOCK.findall(document.read_text()):
        lines = block.replace("\\\n", " ").splitlines()
        if any(line.startswith("$ ") for line in lines):
            lines = [line[2:] for line in lines if line.startswith("$ ")]
        for line in lines:
            text = COMMENT.sub("", f" {line}").strip()
            expected = line.partition(EXPECTED)[2].strip()
            if text:
                found.append(Command(" ".join(text.split()), expected))
    return found


class Terminal:
    """Runs commands in a folder that looks like a checkout after `make install`. Use as a context manager.

    `make run` and `addnorm serve` start a service on a free port, in the place of the one before, until the terminal is
    closed; later commands that name port 8000 meet it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.url, self.stack = folder, "", ExitStack()
        for name in ("examples", "deploy", "docs"):
            (folder / name).symlink_to(ROOT / name)
        (folder / "models").mkdir()
        (folder / "models" / "intents").symlink_to(ROOT / "models" / "intents")
        (folder / "bin").mkdir()
        for name, arguments in (("addnorm", "-m addnorm"), ("python", ""), ("python3", "")):
            shim = folder / "bin" / name
            shim.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {arguments} "$@"\n')
            shim.chmod(0o755)
        self.environment = checkout() | {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
        self.environment |= {"NO_PROXY": "localhost,127.0.0.1", "COLUMNS": "160"}
        self.environment |= {"ADDNORM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # others may use the machine too

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stack.close()

    def run(self, command: Command) -> None:
        """Runs a command; fails where it does, or where it does not print what it should."""
        text = command.text.replace(".venv/bin/", "")
        if text == "make run" or text.startswith("addnorm serve"):
            self.stack.close()
            options = shlex.split(text)[2:]
            self.url = self.stack.enter_context(served(*options, cwd=self.folder))
            return
        if self.url:
            text = ADDRESS.sub(self.url.removeprefix("http://"), text)
            text = re.sub(r"\baddnorm stats\b(?! (?:http|merge))", f"addnorm stats {self.url}", text)
        done = subprocess.run(
            ["sh", "-c", text],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, f"`{text}` ends with {done.returncode}:\n{done.stdout}"
        assert command.expected in done.stdout, f"`{text}` does not print {command.expected!r} but:\n{done.stdout}"
