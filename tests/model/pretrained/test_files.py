"""JSON can hold half a surrogate pair, which no tokenizer reads and no manifest can keep."""

from pathlib import Path
from typing import Any

import pytest

from model.pretrained.files import Settings
from runtime.errors import ExportError
from tests.model.pretrained.networks import write


@pytest.mark.parametrize("value", [{"\ud800": "a"}, {"a": "b \ud800"}], ids=["name", "text"])
def test_objects_of_texts_are_unicode(value: dict[str, Any], tmp_path: Path) -> None:
    write(tmp_path / "x.json", {"prompts": value})
    with pytest.raises(ExportError, match=r"^prompts in .*: it has half a surrogate pair, valid Unicode is needed\.$"):
        Settings.read(tmp_path / "x.json").texts("prompts")


def test_texts_are_unicode(tmp_path: Path) -> None:
    write(tmp_path / "x.json", {"odd": "\ud83d", "plain": "\U0001f600"})
    settings = Settings.read(tmp_path / "x.json")
    assert settings.get("plain", "") == "\U0001f600"
    with pytest.raises(ExportError, match=r'^odd in .* is "\\ud83d": it has half a surrogate pair') as refused:
        settings.get("odd", "")
    assert str(refused.value).isascii()
