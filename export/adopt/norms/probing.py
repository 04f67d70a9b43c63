"""Runs a foreign graph with inner values among its outputs; what ONNX Runtime refuses becomes an ExportError."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray

from runtime.errors import ExportError
from runtime.graph.session import open_session

NO_MEAN, NO_MEAN_HALF = 1e-4, 1e-3  # of the root mean square, in float32 and float16
Feeds = Mapping[str, NDArray[Any]]
Dimensions = list[int | str | None]

DTYPES = {
    "tensor(float)": ir.DataType.FLOAT,
    "tensor(float16)": ir.DataType.FLOAT16,
    "tensor(double)": ir.DataType.DOUBLE,
    "tensor(bfloat16)": ir.DataType.BFLOAT16,
}


class Tensor(NamedTuple):
    """What is known of a value.

    Attributes:
        dimensions: empty where not even their number is known.
        centered: whether the mean over its last axis is 0 wherever the graph ran.
    """

    dtype: ir.DataType
    dimensions: Dimensions
    centered: bool = False


def describe(model: ir.Model, values: Sequence[ir.Value], batch: Feeds | None) -> list[Tensor]:
    """What ONNX Runtime infers of inner values: it knows its own operators, onnx.shape_inference does not.

    Args:
        batch: if given, all dimensions but the last are those that values have when the graph runs on it.
    """
    names = [str(value.name) for value in values]
    session = load(with_outputs(ir.to_proto(model), names).SerializeToString())
    computed = {} if batch is None else run(session, batch)
    found: dict[str, Tensor] = {}
    for output in session.get_outputs():
        if output.name in names:  # the last one must not depend on the batch
            last = output.shape[-1:] or [None]
            array = computed.get(output.name)
            dimensions = output.shape if array is None else [*array.shape[:-1], *last]
            dtype = DTYPES.get(output.type, ir.DataType.UNDEFINED)
            found[output.name] = Tensor(dtype, dimensions, array is not None and is_centered(array))
    return [found[name] for name in names]


def is_centered(x: NDArray[Any]) -> bool:
    """Whether x [..., D] has mean 0 over its features wherever it has any."""
    if x.ndim == 0 or x.shape[-1] < 2 or x.dtype.kind != "f":
        return False
    wide = x.astype(np.float64)
    rms = np.sqrt((wide**2).mean(-1))
    limit = NO_MEAN_HALF if x.dtype.itemsize == 2 else NO_MEAN
    return bool(rms.any() and (np.abs(wide.mean(-1)) <= limit * rms).all())


def token_shapes(feeds: Feeds) -> set[tuple[int, ...]]:
    """How many rows and tokens go in."""
    return {values.shape for values in feeds.values() if values.ndim == 2 and values.dtype.kind == "i"}


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
