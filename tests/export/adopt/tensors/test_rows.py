"""Files of rows that cannot be read are refused in a sentence."""

from pathlib import Path

import numpy as np
import pytest

from export.adopt.tensors.rows import read_tensor_rows
from runtime.errors import DataError
from runtime.manifest import TensorSpec

SPECS = [TensorSpec(name="x", dtype="float32", shape=[2])]


def refused(path: Path, words: str) -> None:
    with pytest.raises(DataError) as caught:
        read_tensor_rows(path, SPECS, None)
    message = str(caught.value)
    assert words in message and str(path) in message and message.endswith(".") and "\n" not in message


def test_a_single_array_by_the_name_of_several_is_refused(tmp_path: Path):
    np.save(tmp_path / "rows.npy", np.ones((12, 2), "f4"))
    refused((tmp_path / "rows.npy").rename(tmp_path / "rows.npz"), "a single array without a name: write it with numpy")


@pytest.mark.parametrize("name", ["rows.npz", "rows.csv", "rows.jsonl"])
def test_a_file_that_is_not_there_is_told(name: str, tmp_path: Path):
    refused(tmp_path / name, "cannot be read: it does not exist")


def test_a_number_that_no_float_holds_is_refused(tmp_path: Path):
    (tmp_path / "rows.jsonl").write_text('{"a": 1, "b": 2}\n' * 12 + f'{{"a": 1, "b": {"9" * 400}}}\n')
    refused(tmp_path / "rows.jsonl", "has a number beyond 1.8e308: leave its row out")


def test_columns_of_one_name_are_refused(tmp_path: Path):
    (tmp_path / "rows.csv").write_text("a,a,b\n" + "1,2,3\n" * 12)
    refused(tmp_path / "rows.csv", "has 2 columns named 'a'")
