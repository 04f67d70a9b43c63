from pathlib import Path

import pytest

from tests.model.pretrained.networks import SIZES, save_tokenizer, write


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """An encoder's directory; its weights are not looked at."""
    save_tokenizer(tmp_path)
    write(tmp_path / "config.json", SIZES | {"model_type": "bert", "architectures": ["BertModel"]})
    (tmp_path / "model.safetensors").touch()
    return tmp_path
