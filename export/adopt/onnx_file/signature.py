"""Gives a file's graph the inputs and outputs that the service knows: those of packed batches, one text to a pack.

So the graph runs in the same way as all others do. Its attention mask is where segment_ids are not 0; where the file
gives vectors of tokens, pooling is done in the graph.
"""

# P packs = R rows, S tokens, D features

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from export.adopt.norms.building import Builder
from export.adopt.norms.expose import OUTPUT, exposed_norms
from export.adopt.onnx_file.source import Source
from runtime.errors import ExportError
from runtime.manifest import PoolingKind

PACKED = ("packs", "tokens")
DTYPES = {
    "int64": ir.DataType.INT64,
    "int32": ir.DataType.INT32,
    "float32": ir.DataType.FLOAT,
    "bool": ir.DataType.BOOL,
}
LOWEST = float(np.finfo(np.float32).min)


def last_norm_output(model: ir.Model) -> ir.Value:
    """What the last observed norm gives [R, S, D]; where it is computed elsewhere, what flows into it."""
    norm = exposed_norms(model)[-1]
    assert norm.inputs[0] is not None
    return norm.outputs[0] if norm.outputs[0].uses() or norm.outputs[0].is_graph_output() else norm.inputs[0]


def to_served(model: ir.Model, source: Source, tokens: str) -> bytes:
    """`model`, changed in place, as the graph of an artifact.

    Args:
        model: of `source`, with its statistics exposed.
        tokens: name of the vectors of tokens [R, S, D], which make a text's embedding.
    """
    graph = model.graph
    values = {value.name: value for node in graph for value in node.outputs} | {v.name: v for v in graph.inputs}
    free_names(graph)
    surgery = Surgery(graph, model.opset_imports.get("", 17))
    surgery.replace_inputs(source)
    outputs = []
    if source.task != "embedding":
        outputs.append(surgery.output("logits", values[source.output], ["rows", "classes"]))
    vectors = values[tokens]
    if source.task != "embedding" or source.per_token:
        vectors = surgery.pool(vectors, source.pooling)
    outputs.append(surgery.output("embedding", vectors, ["rows", "features"]))
    outputs += [value for value in graph.outputs if value.name == OUTPUT]
    graph.outputs[:] = outputs
    graph.sort()
    RemoveUnusedNodesPass()(model)
    try:
        content: bytes = ir.to_proto(model).SerializeToString()
    except Exception as error:  # of protobuf
        raise ExportError(f"{source.file.path} is too large for one file: 2 GB are allowed.") from error
    return content


def free_names(graph: ir.Graph) -> None:
    """Renames inner values that are called like an input or an output of the served graph."""
    taken = {"input_ids", "type_ids", "position_ids", "segment_ids", "pooling", "logits", "embedding"}
    for value in [*graph.inputs, *graph.initializers.values(), *(v for n in graph.all_nodes() for v in n.outputs)]:
        if value.name in taken:
            initializer = graph.initializers.pop(value.name, None)
            value.name = f"{value.name}.file"
            if initializer is not None:
                graph.register_initializer(value)


@dataclass(frozen=True, slots=True)
class Surgery(Builder):
    """Changes one graph."""

    given: dict[str, ir.Value] = field(default_factory=dict)  # the served graph's inputs

    def replace_inputs(self, source: Source) -> None:
        names = ["input_ids", "position_ids", "segment_ids"] + ["type_ids"] * source.type_ids
        self.given.update({name: ir.val(name, ir.DataType.INT64, PACKED) for name in names})
        self.given["pooling"] = ir.val("pooling", ir.DataType.FLOAT, ["rows", "positions"])
        mask = self.add("Cast", [self.given["segment_ids"]], "mask", to=ir.DataType.BOOL)
        roles = self.given | {"attention_mask": mask}
        if not source.type_ids:
            roles["type_ids"] = self.add("Sub", [self.given["segment_ids"]] * 2, "no_types")
        old = {value.name.removesuffix(".file"): value for value in self.graph.inputs if value.name}
        for role, named in source.file.inputs.items():
            new = self.cast(roles[role], DTYPES[named.dtype], f"{role}.cast")
            old[named.name].replace_all_uses_with(new)
        self.graph.inputs[:] = list(self.given.values())

    def pool(self, tokens: ir.Value, pooling: PoolingKind) -> ir.Value:
        """A vector for each text [R, D] of its tokens' [P, S, D]."""
        tokens = self.cast(tokens, ir.DataType.FLOAT, "tokens.cast")
        if pooling != "max":
            flat = self.add("Flatten", [tokens], "tokens.flat", axis=2)
            return self.add("MatMul", [self.given["pooling"], flat], "pooled")
        mask = self.add("Cast", [self.given["segment_ids"]], "max.mask", to=ir.DataType.BOOL)
        mask = self.add("Reshape", [mask, self.constant("max.shape", [0, 0, 1])], "max.mask.tokens")
        lowest = self.constant("max.lowest", np.float32(LOWEST))
        valid = self.add("Where", [mask, tokens, lowest], "max.valid")
        return self.reduce("ReduceMax", valid, 1, "max")
