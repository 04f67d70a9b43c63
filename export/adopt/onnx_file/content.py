"""Reads an ONNX file, and brings it into one form: no local functions, weights among the initializers."""

from math import prod
from pathlib import Path

import onnx
from onnx import TensorProto
from onnx.inliner import inline_local_functions

from runtime.artifact import read_regular
from runtime.errors import ExportError
from runtime.graph.encoder import first_line

DEFAULT = ("", "ai.onnx")  # two names of one domain
LARGE = 1024  # bytes of a weight that is not copied more often than it must
LEAST = 16  # numbers of a constant that is a weight
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
WEIGHTS = frozenset({*FLOATS, TensorProto.INT8, TensorProto.UINT8})  # others are positions and shapes


def read_content(path: Path) -> tuple[bytes, list[Path]]:
    """The file with all weights inside, and the files beside it that it took weights from.

    Raises:
        ExportError: it cannot be read.
    """
    try:
        proto = in_one_form(onnx.load_model_from_string(read_regular(path)))
        places = {item.value for tensor in proto.graph.initializer for item in tensor.external_data}
        weights = [path.parent / place for place in sorted(places) if (path.parent / place).is_file()]
        onnx.load_external_data_for_model(proto, str(path.parent))
        content: bytes = proto.SerializeToString()
    except OSError as error:
        raise ExportError(f"{path} cannot be read ({error.strerror}): give the path of an ONNX file.") from None
    except Exception as error:  # of protobuf, or of onnx where the weights beside the file are missing
        raise ExportError(
            f"{path} cannot be read ({first_line(error)[:300]}): give an ONNX file of up to 2 GB, with the "
            "files of its weights beside it."
        ) from None
    if proto.functions:
        raise ExportError(
            f"{path} calls the function {proto.functions[0].name}, which is of another opset than the graph: export it "
            "again, with one opset."
        )
    return content, weights


def in_one_form(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same network without local functions, the weights of Constant nodes among its initializers, and the opset
    under the domain "". It may be `proto` itself."""
    drop_uncalled(proto)
    if proto.functions:
        proto = inlined(proto)
    if all(item.domain for item in proto.opset_import):
        for item in proto.opset_import:
            item.domain = "" if item.domain in DEFAULT else item.domain
    lift_constants(proto.graph)
    return proto


def drop_uncalled(proto: onnx.ModelProto) -> None:
    """Takes out the local functions that no node calls; whatever their opset is, they compute nothing."""
    functions = {called(function.domain, function.name): function for function in proto.functions}
    waiting, reached = list(proto.graph.node) if functions else [], set()
    while waiting:
        node = waiting.pop()
        waiting += [each for item in node.attribute for graph in (item.g, *item.graphs) for each in graph.node]
        name = called(node.domain, node.op_type)
        if name in functions and name not in reached:
            reached.add(name)
            waiting += functions[name].node
    for place in reversed(range(len(proto.functions))):
        if called(proto.functions[place].domain, proto.functions[place].name) not in reached:
            del proto.functions[place]


def called(domain: str, name: str) -> tuple[str, str]:
    """What a node calls a function by."""
    return ("" if domain in DEFAULT else domain, name)


def inlined(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A model without local functions; its weights are taken out meanwhile, as the inliner would copy them four times.

    A function of another opset than the graph's is left.
    """
    held = {tensor.name: tensor.raw_data for tensor in proto.graph.initializer if len(tensor.raw_data) > LARGE}
    for tensor in proto.graph.initializer:
        if tensor.name in held:
            tensor.ClearField("raw_data")
    proto = inline_local_functions(proto)
    for tensor in proto.graph.initializer:
        if tensor.name in held:
            tensor.raw_data = held.pop(tensor.name)
    return proto


def lift_constants(graph: onnx.GraphProto) -> None:
    """Makes initializers of the tensors in Constant nodes: whoever looks for weights finds them all."""
    given = {value.name for value in graph.output}
    weights = [node for node in graph.node if is_weight(node) and node.output[0] not in given]
    for node in weights:
        tensor = graph.initializer.add()
        tensor.CopyFrom(node.attribute[0].t)
        tensor.name = node.output[0]
    lifted = {node.output[0] for node in weights}
    kept = [node for node in graph.node if node.op_type != "Constant" or node.output[0] not in lifted]
    if lifted:
        del graph.node[:]
        graph.node.extend(kept)


def is_weight(node: onnx.NodeProto) -> bool:
    if node.op_type != "Constant" or node.domain not in DEFAULT or [item.name for item in node.attribute] != ["value"]:
        return False
    tensor = node.attribute[0].t
    return tensor.data_type in WEIGHTS and prod(tensor.dims) >= LEAST
