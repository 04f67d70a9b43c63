"""Runs a foreign graph with inner values among its outputs; what ONNX Runtime refuses becomes an ExportError."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import onnx
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray

from runtime.errors import ExportError
from runtime.graph.session import open_session

Feeds = Mapping[str, NDArray[Any]]
Dimensions = list[int | str | None]

DTYPES = {
    "tensor(float)": ir.DataType.FLOAT,
    "tensor(float16)": ir.DataType.FLOAT16,
    "tensor(double)": ir.DataType.DOUBLE,
    "tensor(bfloat16)": ir.DataType.BFLOAT16,
}


class Tensor(NamedTuple):
    """What is known of a value; no dimensions: not even how many there are."""

    dtype: ir.DataType
    dimensions: Dimensions


def describe(model: ir.Model, values: Sequence[ir.Value], batch: Feeds | None) -> list[Tensor]:
    """What ONNX Runtime infers of inner values: it knows its own operators, onnx.shape_inference does not.

    Args:
        batch: if given, all dimensions but the last are those that values have when the graph runs on it.
    """
    names = [str(value.name) for value in values]
    session = load(with_outputs(ir.to_proto(model), names).SerializeToString())
    shapes = {} if batch is None else {name: list(output.shape) for name, output in run(session, batch).items()}
    found: dict[str, Tensor] = {}
    for output in session.get_outputs():
        if output.name in names:  # the last one must not depend on the batch
            last = output.shape[-1:] or [None]
            dimensions = [*shapes[output.name][:-1], *last] if output.name in shapes else output.shape
            found[output.name] = Tensor(DTYPES[output.type], dimensions)
    return [found[name] for name in names]


def with_outputs(proto: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """`proto` with these values among its outputs."""
    known = {output.name for output in proto.graph.output}
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(names) if name not in known)
    return proto


def load(model: bytes) -> ort.InferenceSession:
    try:
        return open_session(model, "cpu", threads=1)[0]
    except Exception as error:  # ONNX Runtime's own have no common base
        raise ExportError(f"ONNX Runtime cannot load the graph: {error}") from error


def run(session: ort.InferenceSession, feeds: Feeds) -> dict[str, NDArray[Any]]:
    """All outputs by name."""
    names = [output.name for output in session.get_outputs()]
    try:
        return dict(zip(names, session.run(names, dict(feeds)), strict=True))
    except Exception as error:
        raise ExportError(f"ONNX Runtime cannot run the graph: {error}") from error
