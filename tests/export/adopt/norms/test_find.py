"""Norms that say nothing of one token are told with the reason."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto

from export.adopt.norms.find import find_norms
from export.adopt.tensors.norms import find_tensor_norms
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
    "RMSNorm without eps": (
        "s = Mul(x, x) v = ReduceMean <axes = [-1]> (s) r = Sqrt(v) y = Div(x, r)",
        f"batch, tokens, {D}",
        "nothing is added to its variance",
    ),
    "an eps that is computed": (
        "h = Mul(eps, half) " + ROOT.replace("eps)", "h)") + "y = Div(d, r)",
        f"batch, tokens, {D}",
        "it is written in a way that is not known",
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


RMS = "s2 = Mul(d, d) v2 = ReduceMean <axes = [-1]> (s2) e2 = Add(v2, eps) r2 = Sqrt(e2) y = Div(d, r2)"
CENTERING = {
    "a product": "d = MatMul(x, centering) ",
    "a product, times a number": "z = MatMul(x, centering) d = Mul(z, two) ",
    "the mean of the means of both halves": "a, b = Split <axis = -1> (x) p = ReduceMean <axes = [-1]> (a) "
    "q = ReduceMean <axes = [-1]> (b) t = Add(p, q) m = Mul(t, half) d = Sub(x, m) ",
}


@pytest.mark.parametrize("centering", CENTERING.values(), ids=CENTERING)
@pytest.mark.parametrize("dtype", [TensorProto.FLOAT, TensorProto.FLOAT16])
def test_layer_norm_that_is_centered_in_an_unknown_way_is_no_rms_norm(centering: str, dtype: int):
    body = centering + f"c = Cast <to = {dtype}> (d) f = Cast <to = {dtype}> (eps) s = Mul(c, c) "
    body += "v = ReduceMean <axes = [-1]> (s) e = Add(v, f) r = Sqrt(e) n = Div(c, r) y = Cast <to = 1> (n)"
    model = graph(body)
    if "centering" in centering:
        matrix = (np.eye(D) - 1 / D).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(matrix, "centering"))
    norms, (unobserved,) = find_norms(ir.from_proto(model), tokens()[0])
    assert not norms and unobserved.reason.endswith("what it normalizes was centered before, and its mean is lost.")


def test_layer_norm_that_adds_a_negative_multiple_of_its_mean_is_no_rms_norm():
    body = "m = ReduceMean <axes = [-1]> (x) h = Mul(m, two) k = Mul(h, minus_half) d = Add(x, k) " + RMS
    norms, (unobserved,) = find_norms(ir.from_proto(graph(body)), tokens()[0])
    assert not norms and "was centered before" in unobserved.reason


BY_DESIGN = {  # an RMSNorm sees mean 0, and loses none
    "behind a LayerNorm": "t = Identity(ones) d = LayerNormalization(x, t) ",
    "behind a LayerNorm that is written out": ROOT.replace("d =", "c =").replace("(d,", "(c,") + "d = Div(c, r) ",
    "where weights were centered": "c = MatMul(x, centered) t = Tanh(x) u = MatMul(t, centered) d = Add(c, u) ",
}


@pytest.mark.parametrize("before", BY_DESIGN.values(), ids=BY_DESIGN)
@pytest.mark.parametrize("fixed", [None, True], ids=["texts", "tensors"])
def test_rms_norm_of_what_has_no_mean_by_design_is_observed(before: str, fixed: bool | None):
    model, rng = graph(before + RMS), np.random.default_rng(0)
    matrix = rng.standard_normal((D, D)) @ (np.eye(D) - 1 / D)
    weights = {"ones": np.ones(D), "centered": matrix}
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(values.astype(np.float32), name) for name, values in weights.items()
    )
    found = ir.from_proto(model)
    norms, unobserved = find_norms(found, tokens()[0]) if fixed is None else find_tensor_norms(found, tokens()[0], True)
    assert norms[-1].kind == "rms_norm" and not unobserved


def test_tokens_as_they_went_in_tell_which_norms_are_odd():
    body = "t = Transpose <perm = [1, 0, 2]> (x) z = LayerNormalization(t, weight) w = LayerNormalization(z, weight) "
    model = graph(body + "u = Transpose <perm = [1, 0, 2]> (w) y = LayerNormalization(u, weight)")
    model.graph.input.append(onnx.helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "tokens"]))
    feeds = tokens()[0] | {"ids": np.zeros((3, 5), np.int64)}
    (norm,), unobserved = find_norms(ir.from_proto(model), feeds)
    assert norm.name == "layer.0.norm:3"
    assert len(unobserved) == 2
    assert all(odd.reason.endswith("are [5, 3], those of other norms [3, 5].") for odd in unobserved)


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
