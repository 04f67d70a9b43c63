"""Norms that say nothing of one token are told with the reason."""

import onnx
import onnx_ir as ir
import pytest

from export.adopt.norms.find import find_norms
from runtime.errors import ExportError
from tests.export.adopt.norms.graphs import D, graph, tokens
from tests.export.adopt.norms.test_patterns import ROOT, SCALED

IMAGES = f"batch, {D}, 4, 4"
CASES = {
    "BatchNormalization": (
        "y = BatchNormalization(x, weight, bias, bias, many)",
        IMAGES,
        "layer.0.norm is not observed: it normalizes by fixed moments from training, not by those of a token.",
    ),
    "InstanceNormalization": ("y = InstanceNormalization(x, weight, bias)", IMAGES, "over positions"),
    "GroupNormalization": ("y = GroupNormalization <num_groups = 2> (x, weight, bias)", IMAGES, "over positions"),
    "a norm over channels": (
        ROOT.replace("-1", "1") + "y = Div(d, r)",
        IMAGES,
        "norm_00 is not observed: it normalizes over axis 1, not over the features of one token.",
    ),
    "a norm over tokens": (ROOT.replace("-1", "-2") + "y = Div(d, r)", f"batch, 5, {D}", "over axis -2"),
    "a norm over two axes": (ROOT.replace("-1", "-2, -1") + "y = Div(d, r)", f"batch, 5, {D}", r"axes \[-2, -1\]"),
    "LayerNormalization over two axes": (
        "t = Identity(weight) y = LayerNormalization <axis = -2> (x, t)",
        f"batch, 1, {D}",
        "over axis -2",
    ),
    "a pooled norm": (
        ROOT + "n = Div(d, r) " + SCALED,
        f"batch, {D}",
        "its input has 2 axes, expected batch, tokens and",
    ),
    "heads": (ROOT + "y = Div(d, r)", f"batch, 2, tokens, {D}", "its input has 4 axes"),
    "a free width": (ROOT + "y = Div(d, r)", "batch, tokens, features", "its number of features is not fixed"),
    "an eps for every feature": (
        ROOT.replace("eps", "many") + "y = Div(d, r)",
        f"batch, tokens, {D}",
        "its eps is not one positive number",
    ),
    "no eps": (ROOT.replace("eps", "zero") + "y = Div(d, r)", f"batch, tokens, {D}", "not one positive number"),
    "an unbiased deviation": (
        ROOT.replace("e = Add(v, eps) r = Sqrt(e)", "n = Mul(v, eps) u = Div(n, eps) q = Sqrt(u) r = Add(q, eps)")
        + "y = Div(d, r)",
        f"batch, tokens, {D}",
        "it divides by the unbiased deviation",
    ),
    "an unbiased variance": (
        ROOT.replace("e = Add(v, eps)", "n = Mul(v, eps) u = Div(n, eps) e = Add(u, eps)") + "y = Div(d, r)",
        f"batch, tokens, {D}",
        "it divides by the unbiased deviation",
    ),
    "no sum": (
        ROOT.replace("e = Add(v, eps) r = Sqrt(e)", "r = Sqrt(v)") + "y = Div(d, r)",
        f"batch, tokens, {D}",
        "nothing",
    ),
}


@pytest.mark.parametrize(("body", "shape", "reason"), CASES.values(), ids=CASES)
def test_norm_that_is_not_of_one_token_is_told_with_the_reason(body: str, shape: str, reason: str):
    norms, (unobserved,) = find_norms(ir.from_proto(graph(body, 21 if "Group" in body else 17, shape)))
    assert not norms
    assert reason.replace("\\", "") in unobserved.reason and unobserved.reason.startswith(f"{unobserved.name} is not")


@pytest.mark.parametrize("operator", ["LayerNormalization", "decomposed"])
def test_norm_in_a_branch_is_told(operator: str):
    norm = "y = LayerNormalization(x, weight)" if operator != "decomposed" else ROOT + "y = Div(d, r)"
    branches = [graph(body).graph for body in (norm, "y = Identity(x)")]
    for branch in branches:
        del branch.input[:]
    model = graph("y = Identity(x)")
    model.graph.input.append(onnx.helper.make_tensor_value_info("condition", onnx.TensorProto.BOOL, []))
    choice = onnx.helper.make_node("If", ["condition"], ["y"], then_branch=branches[0], else_branch=branches[1])
    model.graph.node[0].CopyFrom(choice)
    norms, (unobserved,) = find_norms(ir.from_proto(model))
    assert not norms and "inside a branch, a loop or a scan" in unobserved.reason


def test_norm_in_a_local_function_is_found():
    model = graph("y = local.Norm(x)")
    model.opset_import.append(onnx.helper.make_opsetid("local", 1))
    body = graph("c = Constant <value = float {0.00001}> () t = Constant <value = float {2.0}> () " + ROOT).graph.node
    function = onnx.helper.make_function(
        "local",
        "Norm",
        ["x"],
        ["y"],
        [*body, onnx.helper.make_node("Div", ["d", "r"], ["y"])],
        [onnx.helper.make_opsetid("", 17)],
    )
    for node in function.node:
        node.input[:] = [{"eps": "c", "two": "t"}.get(name, name) for name in node.input]
    model.functions.append(function)
    (norm,), unobserved = find_norms(ir.from_proto(model))
    assert (norm.kind, norm.d_model, norm.eps) == ("layer_norm", D, 1e-5) and not unobserved


def test_norm_of_another_number_of_tokens_is_left_out():
    first = "z = LayerNormalization(x, weight) w = LayerNormalization(z, weight) "
    model = graph(first + "p = ReduceMean <axes = [1]> (w) y = LayerNormalization(p, weight)", output=f"batch, 1, {D}")
    norms, (unobserved,) = find_norms(ir.from_proto(model))
    assert [norm.name for norm in norms] == ["layer.0.norm", "layer.0.norm:2"]
    assert unobserved.reason == (
        "layer.0.norm:3 is not observed: its batch and tokens are ['batch', 1], those of other norms "
        "['batch', 'tokens']."
    )


def test_batch_tells_tokens_apart_where_the_graph_does_not():
    body = "z = LayerNormalization(x, weight) w = LayerNormalization(z, weight) "
    body += (
        "from = Constant <value_ints = [0]> () to = Constant <value_ints = [2]> () on = Constant <value_ints = [1]> () "
    )
    model = graph(body + "p = Slice(w, from, to, on) y = LayerNormalization(p, weight)")
    model.graph.output[0].type.tensor_type.ClearField("shape")
    assert len(find_norms(ir.from_proto(model))[0]) == 3
    norms, (unobserved,) = find_norms(ir.from_proto(model), tokens()[0])
    assert len(norms) == 2
    assert unobserved.reason.endswith("its batch and tokens are [3, 2], those of other norms [3, 5].")


def test_graph_that_cannot_be_loaded_is_refused():
    model = graph("z = Unheard(x) y = LayerNormalization(z, weight)")
    with pytest.raises(ExportError, match=r"ONNX Runtime cannot load the graph: .*Unheard"):
        find_norms(ir.from_proto(model))


@pytest.mark.parametrize(
    ("parameter", "name"),
    [
        ("encoder.layer.0.output.LayerNorm.weight", "encoder.layer.0.output.LayerNorm"),
        ("bert/encoder/layer_0/LayerNorm/gamma:0", "bert.encoder.layer_0.LayerNorm"),
        ("norm.weight_quantized", "norm"),
        ("onnx::Mul_123", "norm_00"),
        ("scales.weights", "norm_00"),
    ],
)
def test_name_is_that_of_the_weight_without_its_last_part(parameter: str, name: str):
    model = graph("y = LayerNormalization(x, weight)")
    model.graph.node[0].input[1] = model.graph.initializer[0].name = parameter
    (norm,), _ = find_norms(ir.from_proto(model))
    assert norm.name == name


def test_node_names_a_norm_whose_weights_have_no_names():
    model = graph("y = LayerNormalization(x, weight)")
    model.graph.node[0].input[1] = model.graph.initializer[0].name = "onnx::Mul_123"
    model.graph.node[0].name = "/encoder/layer.0/output/LayerNorm/LayerNormalization"
    (norm,), _ = find_norms(ir.from_proto(model))
    assert norm.name == "encoder.layer.0.output.LayerNorm"
