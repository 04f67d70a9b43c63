"""A command that adopts, and its baseline."""

from pathlib import Path

import pytest

from tests.adopted import make_texts


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(make_texts(12)))
    return file


def command(directory: Path, baseline: Path, *more: str, name: str = "mine", version: str = "3") -> list[str]:
    return ["adopt", str(directory), "--baseline", str(baseline), "--name", name, "--version", version, *more]
