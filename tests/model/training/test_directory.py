"""The directory of a run that is another one is refused, and it is said in what they differ."""

from pathlib import Path

import pytest

from model.network.config import EncoderConfig
from model.training.checkpoint import RunInfo
from model.training.directory import open_directory
from model.training.recipe import Recipe
from runtime.errors import DataError


def info(digest: str = "a", text_column: str = "text", **choices: int) -> RunInfo:
    return RunInfo(
        dataset="mine.csv",
        data_sha256=digest,
        source="me",
        labels=["no", "yes"],
        text_column=text_column,
        recipe=Recipe(**choices),
        encoder=EncoderConfig(num_classes=2, max_tokens=48, vocab_size=300),
    )


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (
            info(epochs=5),
            "holds a run with other choices or data (it has --epochs 20, not 5; --least-steps 3000, not 0): ",
        ),
        (info(seed=1), "(it has --seed 0, not 1): give another --out"),
        (info(digest="b", batch_size=8), "(its data differ): "),
        (info(digest="b", text_column="question"), "(it has --text text, not question): "),
    ],
)
def test_another_run_is_told_from_the_one_that_is_there(other: RunInfo, told: str, tmp_path: Path) -> None:
    open_directory(tmp_path / "run", info(), None)
    open_directory(tmp_path / "run", info(), None)
    with pytest.raises(DataError) as caught:
        open_directory(tmp_path / "run", other, None)
    assert told in str(caught.value)


def test_of_a_run_of_another_kind_nothing_more_is_said(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text("{}")
    with pytest.raises(DataError, match="holds a run with other choices or data: give another --out"):
        open_directory(tmp_path, info(), None)
