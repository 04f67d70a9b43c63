"""What a file's deep graph gives out: files to look into, and the comparison with what is expected."""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.helper import make_tensor

from runtime.artifact import Artifact
from runtime.graph.deep import DeepGraph
from runtime.graph.encoder import Encoder
from runtime.graph.packing import Tokens
from tests.export.adopt.onnx_file.files import tiny

Floats = NDArray[np.float64]
CENTERED = "m = ReduceMean <axes = [-1]> (mixed) d = Sub(mixed, m) s = Mul(d, d) v = ReduceMean <axes = [-1]> (s) "
ROOT = CENTERED + "e = Add(v, eps) r = Sqrt(e) n = Div(d, r) "


def with_norm(body: str) -> onnx.ModelProto:
    """The tiny encoder with another norm at its end."""
    header = '<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]> norm (float[b, t, 8] mixed) => '
    nodes = onnx.parser.parse_model(f"{header}(float[b, t, 8] last_hidden_state) {{ {body} }}").graph.node
    model = tiny()
    del model.graph.node[-1]
    model.graph.node.extend(nodes)
    model.graph.initializer.append(make_tensor("eps", onnx.TensorProto.FLOAT, [], [1e-5]))
    return model


def deep_of(artifact: Artifact) -> DeepGraph:
    deep = DeepGraph.of(artifact, Encoder(artifact))
    assert deep is not None
    return deep


def seen(deep: DeepGraph, sequences: list[Tokens]) -> list[list[NDArray[Any]]]:
    """What enters and leaves the norms, text by text, in the order of the sequences; run as the service runs them."""
    found: dict[bytes, list[NDArray[Any]]] = {}
    for batch in deep.batches(sequences):
        ends = np.cumsum(batch.lengths)[:-1]
        ids = np.split(batch.values.reshape(-1)[batch.token_index], ends)
        rows = zip(*(np.split(values, ends) for values in deep.run(batch)[:2]), strict=True)
        found |= {own.tobytes(): list(row) for own, row in zip(ids, rows, strict=True)}
    return [found[sequence.tobytes()] for sequence in sequences]


def compare(found: list[list[NDArray[Any]]], expected: list[list[Floats]], error: float = 1e-5) -> None:
    for row, wanted in zip(found, expected, strict=True):
        for values, right in zip(row, wanted, strict=True):
            np.testing.assert_allclose(values, right, atol=error * np.abs(right).max(), rtol=0)
