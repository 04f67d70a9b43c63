"""Norms that are only noticed take no name, and no number, of those that are observed."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info

from export.adopt.norms.find import find_norms
from export.adopt.tensors.norms import find_tensor_norms
from tests.export.adopt.norms.graphs import D, graph, tokens

LENGTH = "l = ReduceL2 <axes = [-1]> (x) r = Max(l, eps) n = Div(x, r) "


def names_of(body: str) -> tuple[list[str], list[str]]:
    norms, unobserved = find_norms(ir.from_proto(graph(body)), tokens()[0])
    return [norm.name for norm in norms], [norm.name for norm in unobserved]


def test_a_norm_has_its_weight_s_name_whatever_is_divided_before_it():
    assert names_of(LENGTH + "y = LayerNormalization(n, weight)") == (["layer.0.norm"], ["norm_01"])


def test_a_weight_that_both_read_names_the_norm_that_is_observed():
    body = LENGTH + "m = Mul(n, weight) y = LayerNormalization(m, weight)"
    assert names_of(body) == (["layer.0.norm"], ["layer.0.norm:2"])


def test_only_norms_that_are_observed_are_counted_first():
    body = LENGTH + "s = Sin(n) k = Identity(weight) y = LayerNormalization(s, k)"
    model = graph(body)
    for node in model.graph.node:
        node.input[:] = [name.replace("layer.0.norm.weight", "onnx::Mul_7") for name in node.input]
    next(item for item in model.graph.initializer if item.name.startswith("layer")).name = "onnx::Mul_7"
    norms, unobserved = find_norms(ir.from_proto(model), tokens()[0])
    assert [norm.name for norm in norms] == ["norm_00"] and [norm.name for norm in unobserved] == ["norm_01"]


@pytest.mark.parametrize("rank", [2, 3])
def test_a_row_that_gets_length_1_takes_no_number(rank: int):
    shape = ["rows", 5, D][3 - rank :] if rank == 3 else ["rows", D]
    x, y = (make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy")
    nodes = [
        make_node("LpNormalization", ["x"], ["n"]),
        make_node("Sin", ["n"], ["s"]),
        make_node("LayerNormalization", ["s", "w"], ["y"]),
    ]
    weights = [ir.to_proto(ir.tensor(np.ones(D, np.float32), name="w"))]
    model = make_model(make_graph(nodes, "g", [x], [y], weights), opset_imports=[make_opsetid("", 17)], ir_version=8)
    rows = np.random.default_rng(0).standard_normal([3, *shape[1:]]).astype(np.float32)
    norms, unobserved = find_tensor_norms(ir.from_proto(model), {"x": rows}, fixed=True)
    assert [norm.name for norm in norms] == ["norm_00"] and len(unobserved) == rank - 2
