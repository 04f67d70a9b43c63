"""What is refused before anything runs: a model that has no room for the user's texts."""

from pathlib import Path

import pytest

from export.adopt.texts import Texts
from export.adopt.writing import check_pairs
from model.pretrained.source import read_directory
from runtime.errors import ExportError
from tests.model.pretrained.networks import SIZES, save_tokenizer, write


def test_room_is_needed_for_what_the_baseline_holds(tmp_path: Path) -> None:
    """Three tokens are room for a text between two special ones, and none for a pair between three."""
    save_tokenizer(tmp_path)
    write(tmp_path / "config.json", SIZES | {"model_type": "bert", "architectures": ["BertForSequenceClassification"]})
    write(tmp_path / "tokenizer_config.json", {"model_max_length": 3})
    (tmp_path / "model.safetensors").touch()
    source = read_directory(tmp_path)
    check_pairs(source, Texts(["a"], None))
    with pytest.raises(ExportError, match=r"^A limit of 3 tokens leaves no room for pairs, .*: 4 are needed at least"):
        check_pairs(source, Texts([["a", "b"]], None))
