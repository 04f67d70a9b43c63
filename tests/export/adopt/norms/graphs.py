"""Small graphs, written out, and what the norms in them should say."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir

from export.adopt.norms.expose import expose
from export.adopt.norms.find import find_norms
from export.adopt.norms.norm import Norm, Unobserved
from export.adopt.norms.probing import Feeds
from export.adopt.norms.verify import Agreement, verify

D = 8
CONSTANTS = {
    "one": [1.0],
    "two": [2.0],
    "half": [0.5],
    "minus_half": [-0.5],
    "zero": [0.0],
    "eighth": [1 / D],
    "seventh": [1 / (D - 1)],
    "eps": [1e-5],
    "last": [-1],
    "many": [1e-5] * D,
    "weight": np.linspace(0.5, 2, D),
    "bias": np.linspace(-1, 1, D),
}
PATHS = {"weight": "layer.0.norm.weight", "bias": "layer.0.norm.bias"}


@dataclass(frozen=True, slots=True)
class Adopted:
    """A graph that went all the way."""

    norms: list[Norm]
    unobserved: list[Unobserved]
    before: bytes
    after: bytes
    agreement: Agreement


def graph(body: str, opset: int = 17, shape: str = f"batch, tokens, {D}", output: str = "") -> onnx.ModelProto:
    """A graph from x to y, of which `body` tells the nodes; PATHS are the names of its parameters."""
    header = f'<ir_version: 8, opset_import: ["" : {opset}, "com.microsoft" : 1]>'
    model = onnx.parser.parse_model(f"{header} g (float[{shape}] x) => (float[{output or shape}] y) {{ {body} }}")
    for node in model.graph.node:
        node.input[:] = [PATHS.get(name, name) for name in node.input]
    used = {name for node in model.graph.node for name in node.input}
    for name, values in CONSTANTS.items():
        if PATHS.get(name, name) in used:
            dtype = np.int64 if name == "last" else np.float32
            tensor = onnx.numpy_helper.from_array(np.array(values, dtype), PATHS.get(name, name))
            model.graph.initializer.append(tensor)
    return model


def tokens(shape: Sequence[int] = (3, 5, D)) -> list[Feeds]:
    rng = np.random.default_rng(0)
    return [{"x": (rng.standard_normal(shape) * 3 + rng.standard_normal(shape[:-1])[..., None]).astype(np.float32)}]


def adopt(model: onnx.ModelProto, batches: Sequence[Feeds] | None = None) -> Adopted:
    """Finds, exposes and verifies."""
    before = model.SerializeToString()
    batches, graph = tokens() if batches is None else batches, ir.from_proto(model)
    norms, unobserved = find_norms(graph)
    expose(graph, norms, unobserved)
    after = ir.to_proto(graph).SerializeToString()
    return Adopted(norms, unobserved, before, after, verify(before, after, norms, batches))
