"""Adds statistics to a graph: of a few tokens or pixels of each row, beside the network, which stays as it was."""

# R rows, U units that are looked at, L norms, C features of all BatchNorms together

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from export.adopt.norms.building import Builder
from export.adopt.tensors.channels import Channels
from export.adopt.tensors.norms import FOLDED, TensorNorm
from export.adopt.tensors.units import Picker, samples_of
from runtime.errors import ExportError
from runtime.graph.tensor_graph import EMBEDDING, LOGITS, OWN, STATISTICS


def expose_sampled(
    model: ir.Model,
    norms: Sequence[TensorNorm],
    fixed: bool,
    embedding: str | None = None,
    logits: str | None = None,
) -> ir.Model:
    """`model`, changed in place, with outputs of our own.

    `addnorm.norm_statistics` [R, U, 2L] holds what a token's statistics are to others: mean and 1/sigma of every unit;
    of a BatchNorm's, of its features standardized by the moments that it normalizes with. `addnorm.feature_moments`
    [2, C] has mean and variance of every BatchNorm's features over the units of this run.

    Args:
        fixed: whether all rows have the same shapes.
        embedding: the output that is a row's vector; where it is None, what the last norm sees, averaged over the row.
        logits: the value that classes are told by.

    Raises:
        ExportError: there are no norms, or outputs of these names.
    """
    graph = model.graph
    if not norms:
        some = any(node.op_type in FOLDED for node in graph.all_nodes())
        advice = "pass --folded if BatchNorm was folded into Conv or Gemm" if some else "export the network whole"
        raise ExportError(f"The graph has no norm that can be observed, nothing to adopt: {advice}.")
    if any(str(value.name).startswith(OWN) for value in (*graph.inputs, *graph.outputs)):
        raise ExportError(f"The graph has an input or output that begins with {OWN}: rename it.")
    builder = Builder(graph, model.opset_imports.get("", 17))
    values = {value.name: value for node in graph for value in node.outputs} | {v.name: v for v in graph.inputs}
    sampler = Sampler(Picker(builder, samples_of(norms), fixed), norms, graph.inputs[0])
    added = [sampler.statistics(), *([sampler.channels.moments()] if sampler.channels else [])]
    vector = values[embedding] if embedding else sampler.vector()
    added.append(builder.output(EMBEDDING, vector, ["rows", "features"]))
    if logits is not None:
        added.append(builder.output(LOGITS, values[logits], ["rows", "classes"]))
    graph.outputs.extend(added)
    graph.sort()
    RemoveUnusedNodesPass()(model)
    return model


class Sampler:
    """Statistics of the units that are looked at.

    Args:
        given: an input of the network, which tells how many rows there are.
    """

    def __init__(self, picker: Picker, norms: Sequence[TensorNorm], given: ir.Value) -> None:
        self.builder, self.picker, self.norms = picker.builder, picker, norms
        shape = self.builder.add("Shape", [given], "given.shape")
        self.rows = self.builder.add("Gather", [shape, self.builder.constant("given.axis", [0])], "rows", axis=0)
        self.tokens = {
            place: self.sample(norm, f"norm_{place}") for place, norm in enumerate(norms) if not norm.channels_first
        }
        channels = [norm for norm in norms if norm.channels_first]
        self.channels = Channels(picker, channels) if channels else None

    def sample(self, norm: TensorNorm, name: str) -> ir.Value:
        """U units of every row in float32 [R, U, D], or all of them where there are fewer."""
        add, constant = self.builder.add, self.builder.constant
        shape = add("Concat", [self.rows, constant(f"{name}.rest", [-1, norm.features])], f"{name}.shape", axis=0)
        x = self.picker.pick(add("Reshape", [norm.x, shape], f"{name}.units"), norm.units, 1, name)
        return x if norm.dtype == ir.DataType.FLOAT else self.builder.cast(x, ir.DataType.FLOAT, f"{name}.float")

    def statistics(self) -> ir.Value:
        """Mean and 1/sigma of every unit at every norm [R, U, 2L]."""
        means, deviations = ([value] for value in self.channels.statistics()) if self.channels else ([], [])
        order = [place for place, norm in enumerate(self.norms) if norm.channels_first]
        for place, x in self.tokens.items():
            ones = self.builder.constant(f"norm_{place}.ones", np.ones(self.norms[place].features, np.float32))
            names = [f"norm_{place}.{what}" for what in ("y", "mean", "inv_std")]
            eps = self.norms[place].eps
            _, *both = self.builder.add_all("LayerNormalization", [x, ones], names, axis=-1, epsilon=eps)
            units = self.norms[place].units
            mean, inv_std = (self.picker.repeat(value, units, 1, f"{value.name}") for value in both)
            means.append(mean)
            deviations.append(inv_std)
            order.append(place)
        columns = self.builder.add("Concat", [*means, *deviations], "columns", axis=2)
        at = np.argsort(order)
        places = self.builder.constant("order", np.stack([at, at + len(order)], axis=1).ravel())
        return self.builder.named(
            STATISTICS,
            self.builder.add("Gather", [columns, places], "statistics", axis=2),
            ["rows", "units", len(at) * 2],
        )

    def vector(self) -> ir.Value:
        """What the last norm sees, averaged over the row's units [R, D]; of a GroupNorm over all places."""
        last = self.norms[-1]
        if last.channels_first and self.channels:
            return self.channels.vector()
        if last.groups:
            shape = self.builder.constant("vector.shape", [0, last.vector_size, -1])
            return self.builder.reduce("ReduceMean", self.builder.add("Reshape", [last.x, shape], "flat"), 2, "vector")
        return self.builder.reduce("ReduceMean", self.tokens[len(self.norms) - 1], 1, "vector")
