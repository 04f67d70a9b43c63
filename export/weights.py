"""Two graphs of one network, and its weights once: those of the second are external data in the first's file."""

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from runtime.manifest import MODEL

SHARED_BYTES = 1024  # smaller initializers stay in both graphs
PLAIN = {  # types that are written byte by byte
    TensorProto.FLOAT,
    TensorProto.FLOAT16,
    TensorProto.DOUBLE,
    TensorProto.INT8,
    TensorProto.UINT8,
    TensorProto.INT32,
    TensorProto.INT64,
}


def share_weights(deep: onnx.ModelProto, served: bytes) -> bytes:
    """`deep`, changed in place, its larger weights replaced by where they lie in `served`, the served graph's file.

    A weight that is not found there stays in `deep`.
    """
    last = 0
    for tensor in deep.graph.initializer:
        if len(tensor.raw_data) < SHARED_BYTES:
            continue
        offset = served.find(tensor.raw_data, last)  # both files have them in about the same order
        offset = offset if offset >= 0 else served.find(tensor.raw_data)
        if offset >= 0:  # a graph of other precision has other weights: then the deep graph keeps its own
            last = offset
            point_into_file(tensor, offset)
    content: bytes = deep.SerializeToString()
    return content


def point_into_file(tensor: TensorProto, offset: int) -> None:
    """Replaces a tensor's content by its place in the served graph's file."""
    place = {"location": MODEL, "offset": offset, "length": len(tensor.raw_data)}
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    del tensor.external_data[:]
    tensor.external_data.extend(onnx.StringStringEntryProto(key=key, value=str(value)) for key, value in place.items())


def write_raw(proto: onnx.ModelProto) -> None:
    """Writes larger weights as plain bytes, which can be pointed at; some exporters write them number by number."""
    for tensor in proto.graph.initializer:
        large = int(np.prod(tensor.dims)) * 8 >= SHARED_BYTES
        if large and tensor.data_type in PLAIN and not tensor.HasField("raw_data"):
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
