"""What is read from an ONNX file, and how it is given its texts."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx.helper import make_node

from export.adopt.onnx_file.graph import Input
from runtime.errors import ExportError
from runtime.graph.packing import pad
from tests.export.adopt.norms.exports import VOCAB, between_integers, exported, fused, in_half, in_integers
from tests.export.adopt.onnx_file.files import (
    POSITIONS,
    D,
    add_weights,
    given_as,
    graph_file,
    rename,
    tiny,
    weight,
    with_head,
    with_positions,
    with_types,
    with_vector,
)


@pytest.mark.parametrize("end", ["", ":0"])
@pytest.mark.parametrize(
    ("ids", "mask"), [("input_ids", "attention_mask"), ("input_word_ids", "input_mask"), ("input_ids", "input_mask")]
)
def test_inputs_are_known_by_their_names(ids: str, mask: str, end: str, tmp_path: Path):
    model = rename(rename(tiny(), "input_ids", ids + end), "attention_mask", mask + end)
    file = graph_file(tmp_path, model)
    assert file.inputs == {"input_ids": Input(ids + end, "int64"), "attention_mask": Input(mask + end, "int64")}


@pytest.mark.parametrize("name", ["token_type_ids", "input_type_ids", "segment_ids", "segment_ids:0"])
def test_token_types_are_known_by_their_names(name: str, tmp_path: Path):
    file = graph_file(tmp_path, rename(with_types(tiny()), "token_type_ids", name))
    assert file.inputs["type_ids"] == Input(name, "int64")
    batch = pad([np.array([[5, 0], [6, 1]]), np.array([[7, 1]])])
    feeds = file.feeds(batch, types=True)
    assert feeds[name].tolist() == [[0, 1], [1, 0]] and feeds["input_ids"].tolist() == [[5, 6], [7, 0]]
    assert file.feeds(pad([np.array([5, 6])]))[name].tolist() == [[0, 0]]


@pytest.mark.parametrize(
    ("dtype", "given"), [(TensorProto.INT32, "int32"), (TensorProto.FLOAT, "float32"), (TensorProto.BOOL, "bool")]
)
def test_inputs_have_the_type_that_the_file_takes(dtype: int, given: str, tmp_path: Path):
    file = graph_file(tmp_path, given_as(tiny(), "attention_mask", dtype))
    assert file.inputs["attention_mask"].dtype == given
    feeds = file.feeds(pad([np.array([5, 6]), np.array([7])]))
    assert feeds["attention_mask"].dtype == given and feeds["input_ids"].dtype == np.int64
    np.testing.assert_array_equal(feeds["attention_mask"], [[1, 1], [1, 0]])
    assert file.run(pad([np.array([5, 6]), np.array([7])]))["last_hidden_state"].shape == (2, 2, D)


def test_positions_are_told_where_the_file_asks_for_them(tmp_path: Path):
    feeds = graph_file(tmp_path, with_positions()).feeds(pad([np.array([5, 6, 7]), np.array([8])]))
    assert feeds["position_ids"].tolist() == [[0, 1, 2], [0, 0, 0]]


def test_shapes_tell_vectors_of_tokens_from_those_of_texts(tmp_path: Path):
    assert graph_file(tmp_path, with_vector(tiny())).shapes == {
        "last_hidden_state": (2, 3, D),
        "sentence_embedding": (2, D),
    }
    assert graph_file(tmp_path, with_head(tiny(), 3)[0]).shapes == {"logits": (2, 3)}


@pytest.mark.parametrize("most", [1, 2, 5, POSITIONS - 1, POSITIONS])
def test_a_text_may_have_as_many_tokens_as_are_asked(most: int, tmp_path: Path):
    assert graph_file(tmp_path, tiny()).longest(most) == most


@pytest.mark.parametrize("most", [POSITIONS + 1, 40, 514])
def test_the_longest_text_is_found_by_trying(most: int, tmp_path: Path):
    assert graph_file(tmp_path, tiny()).longest(most) == POSITIONS


def test_what_it_does_not_run_on_is_told_in_a_sentence(tmp_path: Path):
    file = graph_file(tmp_path, tiny())
    with pytest.raises(ExportError, match=r"model.onnx does not run on a batch of texts \(.*\)\.$") as refused:
        file.run(pad([np.arange(POSITIONS + 1)]))
    assert "\n" not in str(refused.value)


TABLES = {"as it is": lambda model, _: model, "half": in_half, "integers": in_integers, "between": between_integers}


@pytest.mark.parametrize("change", [*TABLES.values(), fused], ids=[*TABLES, "fused"])
def test_the_vocabulary_is_the_rows_of_the_table_of_words(change: Callable[..., bytes], tmp_path: Path):
    file = graph_file(tmp_path, change(exported("shallow", 17), tmp_path))
    assert file.vocabulary == VOCAB


def in_bytes() -> onnx.ModelProto:
    """The table is kept in integers and multiplied when it is read."""
    model = tiny()
    table = weight(model, "table")
    rename(model, "table", "computed")
    model.graph.initializer.remove(next(item for item in model.graph.initializer if item.name == "computed"))
    add_weights(model, {"bytes": (table * 20).astype(np.int8), "step": np.array(0.05, np.float32)})
    model.graph.node.insert(0, make_node("Cast", ["bytes"], ["wide"], to=TensorProto.FLOAT))
    model.graph.node.insert(1, make_node("Mul", ["wide", "step"], ["computed"]))
    return model


def test_the_vocabulary_of_a_table_that_is_computed_is_found(tmp_path: Path):
    assert graph_file(tmp_path, in_bytes()).vocabulary == VOCAB
    assert graph_file(tmp_path, given_as(in_bytes(), "input_ids", TensorProto.INT32)).vocabulary == VOCAB


def test_a_file_without_a_table_does_not_tell_its_vocabulary(tmp_path: Path):
    model = tiny()
    words = next(node for node in model.graph.node if "words" in node.output)
    add_weights(model, {"axes": np.array([2])})
    words.CopyFrom(make_node("Unsqueeze", ["input_ids", "axes"], ["numbers"]))
    model.graph.node.insert(1, make_node("Cast", ["numbers"], ["words"], to=TensorProto.FLOAT))
    assert graph_file(tmp_path, model).vocabulary is None


def test_parameters_are_all_weights_of_the_file(tmp_path: Path):
    content = exported("shallow", 17)
    weights = onnx.load_from_string(content).graph.initializer
    assert graph_file(tmp_path, content).parameters == sum(int(np.prod(item.dims)) for item in weights)
    assert graph_file(tmp_path, tiny()).opset == 17
