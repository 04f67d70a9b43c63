"""Files that others bring: a tiny encoder that is written out, heads behind exported ones, changes of either."""

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
import torch
from numpy.typing import NDArray
from onnx.helper import make_node, make_tensor_value_info
from transformers import BertConfig, BertForSequenceClassification

import export.reference
import export.timing
from export.adopt.onnx_file.graph import GraphFile
from export.adopt.onnx_file.source import Hints, Source, read_source
from runtime.errors import ExportError
from tests.export.adopt.norms.exports import SIZES, VOCAB
from tests.model.pretrained.networks import save_tokenizer

FLOAT, D, POSITIONS = onnx.TensorProto.FLOAT, 8, 12
ROWS, TOKENS = "batch", "tokens"
TINY = """<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
tiny (int64[batch, tokens] input_ids, int64[batch, tokens] attention_mask)
    => (float[batch, tokens, 8] last_hidden_state) {
    words = Gather (table, input_ids)
    length = Shape <start = 1, end = 2> (input_ids)
    zero = Constant <value_ints = [0]> ()
    one = Constant <value_ints = [1]> ()
    two = Constant <value_ints = [2]> ()
    places = Slice (positions, zero, length)
    x = Add (words, places)
    floats = Cast <to = 1> (attention_mask)
    mask = Unsqueeze (floats, two)
    valid = Mul (x, mask)
    total = ReduceSum <keepdims = 1> (valid, one)
    count = ReduceSum <keepdims = 1> (mask, one)
    context = Div (total, count)
    mixed = Add (x, context)
    last_hidden_state = LayerNormalization (mixed, weight, bias)
}"""


@contextmanager
def few_draws() -> Iterator[None]:
    """Calibration and speed have tests of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export.reference, "DRAWS", 200)
        patch.setattr(export.timing, "ROUNDS", 2)
        yield


def tiny() -> onnx.ModelProto:
    """A norm over word vectors, each with its position's and the mean of its text added. It reads 12 tokens."""
    model, rng = onnx.parser.parse_model(TINY), np.random.default_rng(0)
    shapes = {"table": (VOCAB, D), "positions": (POSITIONS, D), "weight": (D,), "bias": (D,)}
    add_weights(model, {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()})
    return model


def save(folder: Path, model: onnx.ModelProto | bytes, name: str = "model.onnx") -> Path:
    """Writes a file with a tokenizer beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    save_tokenizer(folder)
    content = model if isinstance(model, bytes) else model.SerializeToString()
    (folder / name).write_bytes(content)
    return folder / name


def save_apart(folder: Path, model: onnx.ModelProto) -> Path:
    """Writes a file whose weights lie in another one, weights.bin."""
    path = save(folder, b"")
    onnx.save_model(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


def read(path: Path, **hints: Any) -> Source:
    return read_source(path, Hints(**hints))


def refused(path: Path, message: str, **hints: Any) -> None:
    with pytest.raises(ExportError, match=message) as error:
        read_source(path, Hints(**hints))
    assert str(error.value).endswith(".") and "\n" not in str(error.value)


def graph_file(folder: Path, model: onnx.ModelProto | bytes) -> GraphFile:
    return GraphFile(save(folder, model))


def add_weights(model: onnx.ModelProto, weights: dict[str, NDArray[Any]]) -> None:
    model.graph.initializer.extend(onnx.numpy_helper.from_array(values, name) for name, values in weights.items())


def weight(model: onnx.ModelProto, name: str) -> NDArray[Any]:
    return onnx.numpy_helper.to_array(next(item for item in model.graph.initializer if item.name == name))


def replace_weight(model: onnx.ModelProto, name: str, values: NDArray[Any]) -> None:
    item = next(item for item in model.graph.initializer if item.name == name)
    item.CopyFrom(onnx.numpy_helper.from_array(values, name))


def append(model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], outputs: dict[str, list[str | int]]) -> None:
    """Adds nodes, with float outputs of these shapes in the place of those that were there."""
    model.graph.node.extend(nodes)
    del model.graph.output[:]
    model.graph.output.extend(make_tensor_value_info(name, FLOAT, shape) for name, shape in outputs.items())


def with_head(
    content: bytes | onnx.ModelProto, classes: int, end: str = "", norm: bool = False
) -> tuple[onnx.ModelProto, NDArray[Any], NDArray[Any]]:
    """A classifier of the first token's vector, its weights [D, C] and its bias [C].

    Args:
        end: an operator behind its logits.
        norm: whether a norm comes before it.
    """
    model, rng = copied(content), np.random.default_rng(1)
    (hidden,) = model.graph.output
    width = hidden.type.tensor_type.shape.dim[-1].dim_value or SIZES["hidden_size"]
    weights, bias = rng.standard_normal((width, classes)).astype(np.float32), rng.standard_normal(classes)
    add_weights(model, {"head.weight": weights, "head.bias": bias.astype(np.float32), "first": np.array(0)})
    add_weights(model, {"head.norm.weight": np.full(width, 2, np.float32)} if norm else {})
    nodes = [make_node("Gather", [hidden.name, "first"], ["head.first"], axis=1)]
    if norm:
        nodes.append(make_node("LayerNormalization", ["head.first", "head.norm.weight"], ["head.normed"]))
    raw = "head.raw" if end else "logits"
    nodes.append(make_node("MatMul", [nodes[-1].output[0], "head.weight"], ["head.product"]))
    nodes.append(make_node("Add", ["head.product", "head.bias"], [raw]))
    nodes += [make_node(end, [raw], ["logits"])] if end else []
    append(model, nodes, {"logits": [ROWS, classes]})
    return model, weights.astype(np.float64), bias.astype(np.float32).astype(np.float64)


def with_vector(content: bytes | onnx.ModelProto) -> onnx.ModelProto:
    """A file that gives the mean of a text's tokens, and their vectors beside it."""
    model = copied(content)
    (hidden,) = model.graph.output
    add_weights(model, {"mean.axis": np.array([1]), "mean.last": np.array([-1])})
    nodes = [
        make_node("Cast", ["attention_mask"], ["mean.floats"], to=FLOAT),
        make_node("Unsqueeze", ["mean.floats", "mean.last"], ["mean.mask"]),
        make_node("Mul", [hidden.name, "mean.mask"], ["mean.valid"]),
        make_node("ReduceSum", ["mean.valid", "mean.axis"], ["mean.total"], keepdims=0),
        make_node("ReduceSum", ["mean.mask", "mean.axis"], ["mean.count"], keepdims=0),
        make_node("Div", ["mean.total", "mean.count"], ["sentence_embedding"]),
    ]
    width = hidden.type.tensor_type.shape.dim[-1].dim_value or SIZES["hidden_size"]
    append(model, nodes, {hidden.name: [ROWS, TOKENS, width], "sentence_embedding": [ROWS, width]})
    return model


def with_types(content: onnx.ModelProto) -> onnx.ModelProto:
    """The tiny encoder, which reads token types too."""
    model = copied(content)
    model.graph.input.append(make_tensor_value_info("token_type_ids", onnx.TensorProto.INT64, [ROWS, TOKENS]))
    add_weights(model, {"types": np.random.default_rng(2).standard_normal((2, D)).astype(np.float32)})
    words = next(node for node in model.graph.node if "words" in node.output)
    words.output[0] = "plain"
    place = list(model.graph.node).index(words) + 1
    model.graph.node.insert(place, make_node("Gather", ["types", "token_type_ids"], ["typed"]))
    model.graph.node.insert(place + 1, make_node("Add", ["plain", "typed"], ["words"]))
    return model


def with_positions() -> onnx.ModelProto:
    """The tiny encoder, which is told the positions."""
    model = tiny()
    model.graph.input.append(make_tensor_value_info("position_ids", onnx.TensorProto.INT64, [ROWS, TOKENS]))
    node = next(node for node in model.graph.node if "places" in node.output)
    node.CopyFrom(make_node("Gather", ["positions", "position_ids"], ["places"]))
    return model


def without_mask() -> onnx.ModelProto:
    """The tiny encoder, which cannot know where texts end."""
    model = tiny()
    del model.graph.input[1]
    shape = make_node("Shape", ["input_ids"], ["shape"])
    ones = make_node(
        "ConstantOfShape", ["shape"], ["attention_mask"], value=onnx.numpy_helper.from_array(np.array([1]))
    )
    for place, node in enumerate([shape, ones]):
        model.graph.node.insert(place, node)
    return model


def copied(content: bytes | onnx.ModelProto) -> onnx.ModelProto:
    return onnx.load_from_string(content if isinstance(content, bytes) else content.SerializeToString())


def rename(model: onnx.ModelProto, old: str, new: str) -> onnx.ModelProto:
    """Calls a value by another name, wherever it is used."""
    for node in model.graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        value.name = new if value.name == old else value.name
    return model


def given_as(model: onnx.ModelProto, name: str, dtype: int) -> onnx.ModelProto:
    """Lets an input have another type."""
    value = next(value for value in model.graph.input if value.name == name)
    rename(model, name, f"{name}.wide")
    value.name, value.type.tensor_type.elem_type = name, dtype
    model.graph.node.insert(0, make_node("Cast", [name], [f"{name}.wide"], to=onnx.TensorProto.INT64))
    return model


@cache
def pair_classifier(classes: int) -> tuple[BertForSequenceClassification, bytes]:
    """A network that reads pairs by their token types, and its export with three inputs."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = BertForSequenceClassification(BertConfig(**SIZES | {"num_hidden_layers": 1}, num_labels=classes)).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
    names, content = ["input_ids", "attention_mask", "token_type_ids"], io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            tuple(torch.ones((2, 5), dtype=torch.int64) for _ in names),
            content,
            dynamo=False,
            opset_version=14,
            input_names=names,
            output_names=["logits"],
            dynamic_axes={name: {0: ROWS, 1: TOKENS} for name in names} | {"logits": {0: ROWS}},
        )
    return model, content.getvalue()
