"""Adds the mean and 1/sigma of whatever flows into each norm to the outputs of a foreign graph.

ONNX Runtime's LayerNormalization hands out both, at any opset. So a decomposed LayerNorm is replaced by it, a named one
gets its other two outputs, and what a fused operator adds before it normalizes is added by an Add again. Where that
would change the answers, or the norm is an RMSNorm, a LayerNormalization beside it computes the statistics alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from export.adopt.norms.building import free_names
from export.adopt.norms.norm import Norm, Unobserved
from export.adopt.norms.outputs import Output, output_of
from runtime.errors import ExportError

OUTPUT = "norm_statistics"
REASONS = 3  # that are told
AXIS = 2  # of the features: older opsets know no negative axes


def expose(model: ir.Model, norms: Sequence[Norm], unobserved: Sequence[Unobserved] = ()) -> list[Output]:
    """Gives `model` one more output: `norm_statistics` [batch, tokens, 2L] in float32.

    Of norm l, column 2l holds the mean of every token over its features, column 2l + 1 holds 1/sigma =
    1 / sqrt(variance + eps): of an RMSNorm too.

    Args:
        model: it is changed in place.
        norms: what `find_norms` found in this model.
        unobserved: the others that it found, which tell why there is nothing to adopt where there are no norms.

    Returns:
        What each norm gives in the changed graph [batch, tokens, d_model], with its weights.

    Raises:
        ExportError: there are no norms, or an output of this name.
    """
    if not norms:
        raise ExportError(f"The graph has no norm that can be observed{reasons(unobserved)}: nothing to adopt.")
    if taken := [value.name for value in (*model.graph.inputs, *model.graph.outputs) if is_taken(str(value.name))]:
        raise ExportError(f"The graph has an input or output named {taken[0]} already: rename it.")
    free_names(model.graph, is_taken)
    surgery, outputs = Surgery(model.graph), [output_of(norm) for norm in norms]
    columns = [column for place, norm in enumerate(norms) for column in surgery.statistics(norm, f"{OUTPUT}.{place}")]
    statistics = ir.val(OUTPUT, ir.DataType.FLOAT, ["batch", "tokens", len(columns)])
    model.graph.append(ir.node("Concat", columns, {"axis": AXIS}, outputs=[statistics], name=OUTPUT))
    model.graph.outputs.append(statistics)
    model.graph.sort()
    RemoveUnusedNodesPass()(model)
    return [output._replace(y=surgery.by_now(output.y)) for output in outputs]


def is_taken(name: str) -> bool:
    """Whether a name is that of the output, or of what is added for it."""
    return name == OUTPUT or name.startswith(f"{OUTPUT}.")


def reasons(unobserved: Sequence[Unobserved]) -> str:
    """Why norms are not observed, in brackets: the first few, and how many more there are."""
    told = [norm.reason.removesuffix(".") for norm in unobserved[:REASONS]]
    if len(unobserved) > REASONS:
        told.append(f"{len(unobserved) - REASONS} more are not")
    return f" ({'; '.join(told)})" if told else ""


def exposed_norms(model: ir.Model) -> list[ir.Node]:
    """Of every norm that was exposed the LayerNormalization that gives its statistics, in the order of the columns."""
    statistics = next(value for value in model.graph.outputs if value.name == OUTPUT).producer()
    assert statistics is not None
    nodes = [column.producer() for column in statistics.inputs[0::2] if column is not None]
    plain = [
        node.inputs[0].producer() if node and node.op_type == "Cast" and node.inputs[0] else node for node in nodes
    ]
    return [node for node in plain if node is not None]


@dataclass(frozen=True, slots=True)
class Surgery:
    """Changes one graph. What it adds is named after its place in the statistics."""

    graph: ir.Graph
    moved: dict[ir.Value, ir.Value] = field(default_factory=dict)  # what took a value's place

    def statistics(self, norm: Norm, place: str) -> Sequence[ir.Value]:
        """Mean and 1/sigma of a norm's input in float32."""
        if norm.written == "LayerNormalization":
            moments = self.own(norm, place)
        elif norm.written.startswith("Skip"):
            moments = self.unfused(norm, place)
        elif norm.match.y is not None:
            moments = self.replaced(norm, place)
        elif norm.written.startswith("Embed"):
            moments = self.beside(norm, given(norm.match.node, 2, f"{place}.embedding_sum"), place)
        else:
            moments = self.beside(norm, self.x(norm), place)
        return [self.cast(moment, norm.dtype, f"{moment.name}.float") for moment in moments]

    def x(self, norm: Norm) -> ir.Value:
        """What a norm normalizes, by now."""
        return self.moved.get(norm.match.x, norm.match.x)

    def by_now(self, y: ir.Value | None) -> ir.Value | None:
        """What took y's place, or y; None where it is not in the graph, as nothing needs it."""
        y = self.moved.get(y, y) if y is not None else None
        maker = y.producer() if y is not None else None
        return y if maker is not None and maker.graph is self.graph else None

    def own(self, norm: Norm, place: str) -> Sequence[ir.Value]:
        """The other two outputs of LayerNormalization."""
        node = norm.match.node
        return [given(node, 1, f"{place}.mean"), given(node, 2, f"{place}.inv_std")]

    def replaced(self, norm: Norm, place: str) -> Sequence[ir.Value]:
        """LayerNormalization in place of a decomposed norm."""
        match = norm.match
        assert match.y is not None
        y, *moments = self.layer_norm(norm, self.x(norm), place, match.scale, match.bias)
        self.take_place(y, match.y)
        return moments

    def unfused(self, norm: Norm, place: str) -> Sequence[ir.Value]:
        """Add and a norm in place of an operator that does both."""
        node, match, simplified = norm.match.node, norm.match, norm.kind == "rms_norm"
        x, skip, *parameters = node.inputs
        (x,) = self.add("Add", [x, skip], [f"{place}.sum"])
        if len(parameters) == (2 if simplified else 3) and parameters[-1] is not None:
            (x,) = self.add("Add", [x, parameters[-1]], [f"{place}.biased"])
        if simplified:
            moments = self.beside(norm, x, place)
            (y,) = self.add("SimplifiedLayerNormalization", [x, match.scale], [f"{place}.y"], norm.eps)
        else:
            y, *moments = self.layer_norm(norm, x, place, match.scale, match.bias)
        for new, old in zip((y, *moments, x), node.outputs, strict=False):
            self.moved[old] = new
            if old.uses() or old.is_graph_output():
                self.take_place(new, old)
        self.graph.remove(node, safe=True)
        return moments

    def beside(self, norm: Norm, x: ir.Value, place: str) -> Sequence[ir.Value]:
        """The statistics of x, by a LayerNormalization in float32 whose normalized output nobody reads."""
        ones, wide = self.ones(norm.d_model, ir.DataType.FLOAT), self.cast(x, norm.dtype, f"{place}.x")
        return self.layer_norm(norm, wide, f"{place}.beside", ones)[1:]

    def layer_norm(
        self, norm: Norm, x: ir.Value, place: str, scale: ir.Value | None = None, bias: ir.Value | None = None
    ) -> Sequence[ir.Value]:
        """y, mean and 1/sigma of LayerNormalization."""
        inputs = [x, self.ones(norm.d_model, norm.dtype) if scale is None else scale, bias]
        return self.add(
            "LayerNormalization", inputs, [f"{place}.{name}" for name in ("y", "mean", "inv_std")], norm.eps
        )

    def add(
        self, op_type: str, inputs: Sequence[ir.Value | None], names: Sequence[str], eps: float | None = None
    ) -> Sequence[ir.Value]:
        """The outputs of a new node; eps of a norm."""
        attributes = {} if eps is None else {"axis": -1, "epsilon": eps}
        node = ir.node(op_type, inputs, attributes, outputs=[ir.val(name) for name in names], name=names[0])
        self.graph.append(node)
        return node.outputs

    def cast(self, value: ir.Value, dtype: ir.DataType, name: str) -> ir.Value:
        """A value in float32."""
        if dtype == ir.DataType.FLOAT:
            return value
        node = ir.node("Cast", [value], {"to": ir.DataType.FLOAT}, outputs=[ir.val(name)], name=name)
        self.graph.append(node)
        return node.outputs[0]

    def ones(self, d_model: int, dtype: ir.DataType) -> ir.Value:
        """A weight that changes nothing."""
        name = f"{OUTPUT}.ones.{d_model}.{dtype.name.lower()}"
        if name not in self.graph.initializers:
            tensor = ir.tensor(np.ones(d_model, dtype.numpy()), name=name)
            self.graph.register_initializer(ir.val(name, const_value=tensor))
        return self.graph.initializers[name]

    def take_place(self, new: ir.Value, old: ir.Value) -> None:
        """Puts a value in the place of another, under its name: it may be an output of the graph."""
        name, new.type, new.shape = old.name, old.type, old.shape
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        old.name, new.name = f"{name}.before", name
        self.moved[old] = new


def given(node: ir.Node, index: int, name: str) -> ir.Value:
    """An optional output of a node; those before it that are not given stay so."""
    for missing in range(len(node.outputs), index + 1):
        node.resize_outputs(missing + 1)
        node.outputs[missing].name = ""
    output = node.outputs[index]
    output.name = output.name or name
    return output
