"""What a graph with statistics looks like, and what it is refused for."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from export.adopt.norms.expose import expose
from export.adopt.norms.find import find_norms
from runtime.errors import ExportError
from runtime.graph.session import open_session
from tests.export.adopt.norms.graphs import D, adopt, graph, tokens
from tests.export.adopt.norms.test_patterns import ROOT

TWO = "z = LayerNormalization <epsilon = 0.01> (x, weight) s = Sin(z) y = LayerNormalization(s, weight, bias)"


def exposed(model: onnx.ModelProto) -> onnx.ModelProto:
    graph = ir.from_proto(model)
    expose(graph, find_norms(graph)[0])
    return ir.to_proto(graph)


def test_columns_are_mean_and_inverse_deviation_in_network_order():
    session, _ = open_session(adopt(graph(TWO)).after, "cpu", 1)
    (feeds,) = tokens()
    (statistics,) = session.run(["norm_statistics"], feeds)
    x = feeds["x"].astype(np.float64)
    mean, variance = x.mean(-1), x.var(-1)
    s = np.sin((x - mean[..., None]) / np.sqrt(variance + 0.01)[..., None] * np.linspace(0.5, 2, D))
    expected = [mean, 1 / np.sqrt(variance + 0.01), s.mean(-1), 1 / np.sqrt(s.var(-1) + 1e-5)]
    np.testing.assert_allclose(statistics, np.stack(expected, -1), rtol=1e-5, atol=1e-6)


def test_rms_norm_reports_the_deviation_about_the_mean_as_trained_models_do():
    body = "y = SimplifiedLayerNormalization <axis = -1, epsilon = 0.01> (x, weight)"
    session, _ = open_session(adopt(graph(body)).after, "cpu", 1)
    (feeds,) = tokens()
    (statistics,) = session.run(["norm_statistics"], feeds)
    x = feeds["x"].astype(np.float64)
    np.testing.assert_allclose(statistics[..., 0], x.mean(-1), atol=1e-5)
    np.testing.assert_allclose(statistics[..., 1], 1 / np.sqrt(x.var(-1) + 0.01), rtol=1e-5)


def test_own_outputs_keep_names_types_and_order():
    model = graph(ROOT + "y = Div(d, r)", 14)
    own, added = list(model.graph.output), exposed(model).graph.output
    assert [(o.name, o.type) for o in added[:-1]] == [(o.name, o.type) for o in own]
    shape = added[-1].type.tensor_type.shape.dim
    assert added[-1].name == "norm_statistics" and [d.dim_param or d.dim_value for d in shape] == ["batch", "tokens", 2]


def test_outputs_that_a_norm_has_already_are_used():
    adopted = adopt(graph("z, m, i = LayerNormalization(x, weight) a = Mul(z, i) y = Add(a, m)"))
    assert adopted.agreement.outputs == 0 and adopted.agreement.statistics["layer.0.norm"] < 1e-5
    assert len(onnx.load_from_string(adopted.after).graph.node) == 4  # and the Concat


def test_statistics_of_fused_operators_that_the_graph_uses_stay():
    body = "t = Tanh(x) z, m, i, u = com.microsoft.SkipLayerNormalization (x, t, weight) a = Mul(u, i) b = Add(a, m) "
    adopted = adopt(graph(body + "y = Add(z, b)"))
    assert adopted.agreement.outputs < 1e-5 and adopted.agreement.statistics["layer.0.norm"] < 1e-5


def test_graph_without_norms_is_refused():
    with pytest.raises(ExportError, match=r"The graph has no norm that can be observed"):
        exposed(graph("y = Tanh(x)"))


def test_reasons_of_norms_that_are_not_observed_are_told():
    body = "a = LayerNormalization <axis = 1> (x, ones) b = LayerNormalization <axis = 1> (a, ones) "
    body += "c = LayerNormalization <axis = 1> (b, ones) d = LayerNormalization <axis = 1> (c, ones) "
    model = graph(body + "y = LayerNormalization <axis = 1> (d, ones)", shape=f"batch, 5, {D}")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((5, D), np.float32), "ones"))
    words = r"observed \(norm_00 is not observed: it normalizes over axis 1, .*; norm_02 .*; 2 more are not\): nothing"
    with pytest.raises(ExportError, match=words):
        adopt(model)


@pytest.mark.parametrize("name", ["norm_statistics", "norm_statistics.0.mean"])
def test_inner_values_may_have_the_names_of_what_is_added(name: str):
    model = graph("z = Sin(x) y = LayerNormalization(z, weight, bias)")
    model.graph.node[0].output[0] = model.graph.node[1].input[0] = name
    adopted = adopt(model)
    assert adopted.agreement.outputs == 0 and adopted.agreement.statistics["layer.0.norm"] < 1e-5


def test_graph_with_an_output_of_that_name_is_refused():
    model = graph("y = LayerNormalization(x, weight)")
    model.graph.output[0].name = model.graph.node[0].output[0] = "norm_statistics"
    with pytest.raises(ExportError, match=r"an input or output named norm_statistics already: rename it"):
        exposed(model)


def test_two_norms_of_one_value_in_half_precision_are_both_observed():
    body = "h = Cast <to = 10> (x) g = Cast <to = 10> (weight) "
    body += "a = SimplifiedLayerNormalization(h, g) b = SimplifiedLayerNormalization(h, g) c = Add(a, b) "
    adopted = adopt(graph(body + "y = Cast <to = 1> (c)"))
    assert [norm.dtype for norm in adopted.norms] == [ir.DataType.FLOAT16] * 2
    assert max(adopted.agreement.statistics.values()) < 1e-5 and adopted.agreement.outputs == 0
