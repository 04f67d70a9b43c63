"""What an ONNX file must be to be adopted; else it is refused in a sentence, and nothing is written."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx.helper import make_node

from export.adopt.onnx_file.adopter import adopt_file
from export.adopt.onnx_file.ending import looks_like_probabilities
from export.adopt.onnx_file.source import Hints
from export.adopt.texts import Texts
from runtime.errors import ExportError
from tests.adopted import make_texts
from tests.export.adopt.onnx_file.files import (
    ROWS,
    TOKENS,
    D,
    add_weights,
    append,
    given_as,
    rename,
    save,
    save_apart,
    tiny,
)

Make = Callable[[Path], Path]  # a file in a folder


def missing(folder: Path) -> Path:
    return save(folder, tiny()).parent / "other.onnx"


def a_folder(folder: Path) -> Path:
    save(folder, tiny())
    (folder / "folder.onnx").mkdir()
    return folder / "folder.onnx"


def a_pipe(folder: Path) -> Path:
    save(folder, tiny())
    os.mkfifo(folder / "pipe.onnx")
    return folder / "pipe.onnx"


def without_weights(folder: Path) -> Path:
    path = save_apart(folder, tiny())
    (folder / "weights.bin").unlink()
    return path


def with_a_pipe_of_weights(folder: Path) -> Path:
    path = without_weights(folder)
    os.mkfifo(folder / "weights.bin")
    return path


def with_weights_elsewhere(folder: Path) -> Path:
    path = save_apart(folder / "inner", tiny())
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        entry = next(entry for entry in tensor.external_data if entry.key == "location")
        entry.value = "../weights.bin"
    (folder / "inner" / "weights.bin").rename(folder / "weights.bin")
    path.write_bytes(model.SerializeToString())
    return path


def custom(folder: Path) -> Path:
    model = tiny()
    model.graph.node[-1].domain, model.graph.node[-1].op_type = "my.own", "Odd"
    model.opset_import.append(onnx.helper.make_opsetid("my.own", 1))
    return save(folder, model)


def changed(change: Callable[[onnx.ModelProto], object]) -> Make:
    def make(folder: Path) -> Path:
        model = tiny()
        change(model)
        return save(folder, model)

    return make


def fix(axis: int) -> Make:
    def change(model: onnx.ModelProto) -> None:
        model.graph.input[1].type.tensor_type.shape.dim[axis].dim_value = 3

    return changed(change)


def sums(model: onnx.ModelProto) -> None:
    """A number for each token alone."""
    add_weights(model, {"axis": np.array([2])})
    append(model, [make_node("ReduceSum", ["last_hidden_state", "axis"], ["y"], keepdims=0)], {"y": [ROWS, TOKENS]})


def whole_numbers(model: onnx.ModelProto) -> None:
    append(model, [make_node("Cast", ["last_hidden_state"], ["y"], to=TensorProto.INT64)], {"y": [ROWS, TOKENS, D]})
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64


REFUSED: dict[str, tuple[Make, str]] = {
    "missing": (missing, r"other.onnx cannot be read \(No such file.*\): give the path of an ONNX file"),
    "a folder": (a_folder, r"folder.onnx cannot be read \(.*\): give the path of an ONNX file"),
    "a pipe": (a_pipe, r"pipe.onnx cannot be read \(it is not a regular file\): give the path of an ONNX file"),
    "no ONNX": (lambda folder: save(folder, b"PK\x03\x04 no graph"), r"cannot be read \(.*\): give an ONNX file of up"),
    "cut short": (
        lambda folder: save(folder, tiny().SerializeToString()[:-99]),
        r"model.onnx cannot be (read|adopted)",
    ),
    "empty": (lambda folder: save(folder, b""), r"model.onnx cannot be adopted \(.*No graph was found"),
    "no weights": (without_weights, r"weights.bin.*: give an ONNX file .*with the files of its weights beside it"),
    "a pipe of weights": (with_a_pipe_of_weights, r"weights.bin.*with the files of its weights beside it"),
    "weights elsewhere": (with_weights_elsewhere, r"cannot be read .*with the files of its weights beside it"),
    "a custom operator": (custom, r"cannot be adopted \(.*my.own:Odd.*\): export it again, for ONNX Runtime alone"),
    "pixels": (
        changed(lambda model: rename(model, "attention_mask", "pixel_values")),
        r"takes pixel_values \(tensor\(int64\)\), and only files that take input_ids, attention_mask, type_ids, "
        r"position_ids can be adopted: export the encoder alone",
    ),
    "ids of floats": (changed(lambda model: given_as(model, "input_ids", TensorProto.DOUBLE)), r"takes input_ids"),
    "no ids": (
        changed(lambda model: rename(model, "input_ids", "position_ids")),
        r"takes no token ids \(input_ids\): only encoders of texts can be adopted",
    ),
    "fixed rows": (
        fix(0),
        r"takes attention_mask of a fixed size \(3\): export it with dynamic axes for batch and tok",
    ),
    "fixed tokens": (fix(1), r"takes attention_mask of a fixed size \(3\): export it with dynamic axes"),
    "a number a token": (changed(sums), r"gives neither vectors nor logits: export the encoder"),
    "whole numbers": (changed(whole_numbers), r"gives neither vectors nor logits: export the encoder"),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_adopted_is_refused_in_a_sentence(make: Make, message: str, tmp_path: Path):
    path = make(tmp_path / "source")
    with pytest.raises(ExportError, match=message) as refused:
        adopt_file(path, Texts(make_texts(10), None), tmp_path / "mine" / "1", Hints(pooling="mean"))
    assert str(refused.value).endswith(".") and "\n" not in str(refused.value)
    assert str(path) in str(refused.value)
    assert not (tmp_path / "mine").exists()


RNG = np.random.default_rng(0)
NORMAL = RNG.standard_normal((12, 3))
EXPONENTIAL = np.exp(3 * NORMAL)
SCORES = {
    "a softmax": EXPONENTIAL / EXPONENTIAL.sum(-1, keepdims=True),
    "a softmax in half precision": (EXPONENTIAL / EXPONENTIAL.sum(-1, keepdims=True)).astype(np.float16),
    "twice a softmax": 2 * EXPONENTIAL / EXPONENTIAL.sum(-1, keepdims=True),
    "sigmoids": 1 / (1 + np.exp(-4 * NORMAL)),
    "hard sigmoids": np.clip(NORMAL + 0.5, 0, 1),
}
HONEST = {
    "small positive logits": 0.2 + 0.1 * RNG.random((12, 3)),
    "smaller ones": 0.01 * RNG.random((12, 3)),
    "those of a ReLU": np.maximum(NORMAL, 0) / (1.1 * NORMAL.max()),
    "few rows": np.array([[0.999, 0.4], [0.2, 0.7], [0.3, 0.3]]),
    "few rows, whose sum is 1": np.array([[0.6, 0.4], [0.3, 0.7]]),
    "the same for every row": np.tile([0.999, 0.2], (12, 1)),
    "large ones": 5 + NORMAL,
    "any": NORMAL,
}


@pytest.mark.parametrize("name", [*SCORES, *HONEST])
def test_logits_are_told_from_scores(name: str):
    rows = SCORES.get(name, HONEST.get(name))
    assert rows is not None
    assert looks_like_probabilities(rows.astype(np.float64)) == (name in SCORES)
