"""What modules.json and the settings of its modules may hold is any JSON."""

from pathlib import Path
from typing import Any

import pytest

from model.pretrained.modules import read_modules
from runtime.errors import ExportError
from tests.model.pretrained.networks import save_modules, write


@pytest.mark.parametrize("mode", [{"a": 1}, [["mean"]], [{}], 3, "\ud800"], ids=str)
def test_a_pooling_that_is_no_name_is_refused(mode: Any, tmp_path: Path) -> None:
    save_modules(tmp_path, "Transformer", "Pooling", pooling_mode=mode)
    with pytest.raises(ExportError, match=r"asks for the pooling .*, and only one of mean, cls.* can be adopted\.$"):
        read_modules(tmp_path)


@pytest.mark.parametrize("path", ["\0", "a\0b", "\ud800", "../other"], ids=ascii)
def test_a_path_that_no_file_can_have_is_refused(path: str, tmp_path: Path) -> None:
    write(tmp_path / "modules.json", [{"type": "x.Transformer", "path": path}])
    with pytest.raises(ExportError, match=r"names \".*\", and modules must lie inside the directory\.$") as refused:
        read_modules(tmp_path)
    assert str(refused.value).isascii()
