"""However a file is written, it is adopted in one form: no functions, all weights found, the usual domain."""

import copy
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.helper import make_function, make_node, make_opsetid

from export.adopt.norms.verify import precision_of
from export.adopt.onnx_file.content import read_content
from runtime.errors import ExportError
from runtime.manifest import NO_DEEP
from tests.export.adopt.norms.exports import exported, in_half
from tests.export.adopt.onnx_file.files import graph_file, refused, save, save_apart, tiny
from tests.export.adopt.onnx_file.test_adopter import adopt


def with_function(*nodes: onnx.NodeProto, opset: int = 17, domain: str = "local") -> onnx.ModelProto:
    """The tiny encoder, whose last norm is in a function with these nodes from x to y."""
    model = tiny()
    model.opset_import.append(make_opsetid(domain, 1))
    norm = model.graph.node[-1]
    inputs = ["x", "weight", "bias"]
    body = nodes or [make_node("LayerNormalization", inputs, ["y"])]
    model.functions.append(make_function(domain, "Norm", inputs, ["y"], body, [make_opsetid("", opset)]))
    norm.op_type, norm.domain = "Norm", domain
    return model


def in_constants(model: onnx.ModelProto) -> onnx.ModelProto:
    """Every weight in a node of its own."""
    changed = copy.deepcopy(model)
    nodes = [make_node("Constant", [], [tensor.name], value=tensor) for tensor in model.graph.initializer]
    del changed.graph.initializer[:], changed.graph.node[:]
    changed.graph.node.extend([*nodes, *model.graph.node])
    return changed


def test_norm_in_a_local_function_is_observed(tmp_path: Path):
    manifest = adopt(save(tmp_path, with_function())).artifact.manifest
    assert [layer.kind for layer in manifest.layers] == ["layer_norm"] and not manifest.unobserved
    assert NO_DEEP not in manifest.training


def test_a_function_with_weights_beside_the_file_is_read(tmp_path: Path):
    whole, _ = read_content(save(tmp_path / "whole", with_function()))
    content, weights = read_content(save_apart(tmp_path / "apart", with_function()))
    found = {
        tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load_from_string(content).graph.initializer
    }
    assert [path.name for path in weights] == ["weights.bin"] and not onnx.load_from_string(content).functions
    for tensor in onnx.load_from_string(whole).graph.initializer:
        np.testing.assert_array_equal(found.pop(tensor.name), onnx.numpy_helper.to_array(tensor))
    assert not found


def test_integers_in_a_function_tell_the_precision(tmp_path: Path):
    norm = make_node("LayerNormalization", ["x", "weight", "bias"], ["normed"])
    quantize = make_node("DynamicQuantizeLinear", ["normed"], ["q", "step", "zero"])
    model = with_function(norm, quantize, make_node("DequantizeLinear", ["q", "step", "zero"], ["y"]))
    assert precision_of(graph_file(tmp_path, model).content) == "int8"


def test_many_calls_of_a_function_take_no_longer_than_their_nodes(tmp_path: Path):
    model = with_function()
    add = make_function("local", "Same", ["x"], ["y"], [make_node("Identity", ["x"], ["y"])], [make_opsetid("", 17)])
    model.functions.append(add)
    names = ["mixed", *(f"mixed.{call}" for call in range(3000))]
    calls = [make_node("Same", [x], [y], domain="local") for x, y in pairwise(names)]
    norm = copy.deepcopy(model.graph.node[-1])
    norm.input[0] = names[-1]
    del model.graph.node[-1]
    model.graph.node.extend([*calls, norm])
    path, start = save(tmp_path, model), time.process_time()
    proto = onnx.load_from_string(read_content(path)[0])
    assert time.process_time() - start < 10  # .1 s; call by call it takes minutes
    assert sum(node.op_type == "Identity" for node in proto.graph.node) == 3000


def test_a_function_of_another_opset_is_refused(tmp_path: Path):
    message = r"calls the function Norm, which is of another opset than the graph: export it again, with one opset"
    refused(save(tmp_path, with_function(opset=18)), message, pooling="mean")


@pytest.mark.parametrize("caller", ["nobody", "itself", "another that nobody calls"])
def test_a_function_that_nobody_calls_may_be_of_another_opset(caller: str, tmp_path: Path):
    model, opset = with_function(), make_opsetid("", 18)
    called = "Left" if caller == "itself" else "Identity"
    body = make_node(called, ["x"], ["y"], domain="local" if called == "Left" else "")
    model.functions.append(make_function("local", "Left", ["x"], ["y"], [body], [opset, make_opsetid("local", 1)]))
    if caller.startswith("another"):
        call = make_node("Left", ["x"], ["y"], domain="local")
        opsets = [make_opsetid("", 17), make_opsetid("local", 1)]
        model.functions.append(make_function("local", "Calls", ["x"], ["y"], [call], opsets))
    content = onnx.load_from_string(read_content(save(tmp_path, model))[0])
    assert not content.functions and content.graph.node[-1].op_type == "LayerNormalization"


@pytest.mark.parametrize("inside", ["a function", "a branch"])
def test_a_function_that_is_called_inside_is_refused_in_another_opset(inside: str, tmp_path: Path):
    call = make_node("Other", ["x"], ["y"], domain="local")
    if inside == "a branch":
        branch = onnx.helper.make_graph([call], "b", [], [onnx.helper.make_empty_tensor_value_info("y")])
        call = make_node("If", ["truth"], ["y"], then_branch=branch, else_branch=branch)
    truth = make_node("Constant", [], ["truth"], value=onnx.numpy_helper.from_array(np.array(True)))
    model = with_function(truth, call)
    model.functions[0].opset_import.append(make_opsetid("local", 1))
    other = make_node("Identity", ["x"], ["y"])
    model.functions.append(make_function("local", "Other", ["x"], ["y"], [other], [make_opsetid("", 18)]))
    with pytest.raises(ExportError, match="calls the function Other, which is of another opset"):
        read_content(save(tmp_path, model))


def test_weights_in_nodes_are_found(tmp_path: Path):
    half = onnx.load_from_string(in_half(exported("shallow", 17), tmp_path))
    expected, found = (graph_file(tmp_path, model) for model in (half, in_constants(half)))
    assert precision_of(found.content) == precision_of(expected.content) == "fp16"
    assert len(found.content) <= 1.1 * len(expected.content)
    arrays = [onnx.numpy_helper.to_array(tensor) for tensor in half.graph.initializer]
    assert found.parameters == sum(array.size for array in arrays if array.dtype.kind == "f" and array.size >= 16)
    manifest = adopt(save(tmp_path, in_constants(half))).artifact.manifest
    assert manifest.precision is not None and manifest.precision.kind == "fp16" and NO_DEEP not in manifest.training


@pytest.mark.parametrize("opset", [11, 17])
def test_the_domain_of_the_opset_may_be_written_out(opset: int, tmp_path: Path):
    model = onnx.load_from_string(exported("bert", opset))
    for item in [*model.opset_import, *model.graph.node]:
        item.domain = item.domain or "ai.onnx"
    manifest = adopt(save(tmp_path, model)).artifact.manifest
    assert manifest.opset == opset and NO_DEEP not in manifest.training
    assert len(manifest.layers) == 5 and any(layer.add for layer in manifest.layers)


def test_what_onnx_runtime_alone_can_read_is_refused_in_a_sentence(tmp_path: Path):
    model = tiny()
    model.graph.node[-1].attribute.append(onnx.helper.make_attribute("axis", -1))
    content = model.SerializeToString()
    place = content.rindex(b"\x0a\x04axis")
    broken = content[:place] + b"\x0a\x04ax\xffs" + content[place + 6 :]
    with pytest.raises(ExportError, match=r"model.onnx cannot be read \(.*\): export it again\.$"):
        graph_file(tmp_path, broken).parse()
