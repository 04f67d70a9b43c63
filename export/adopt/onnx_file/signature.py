"""Gives a file's graph the inputs and outputs that the service knows: those of packed batches, one text to a pack.

So the graph runs in the same way as all others do. Its attention mask is where segment_ids are not 0; where the file
gives vectors of tokens, pooling is done in the graph.
"""

# P packs = R rows, S tokens, D features

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass, RemoveUnusedNodesPass

from export.adopt.adds import NormAdd, measure_adds
from export.adopt.norms.building import Builder, free_names
from export.adopt.norms.expose import AXIS, OUTPUT, exposed_norms
from export.adopt.onnx_file.deep import DEEP_OUTPUTS, Watched, find_adds
from export.adopt.onnx_file.source import Source
from export.weights import share_weights, write_raw
from runtime.errors import ExportError
from runtime.manifest import PoolingKind

PACKED = ("packs", "tokens")
DTYPES = {
    "int64": ir.DataType.INT64,
    "int32": ir.DataType.INT32,
    "float32": ir.DataType.FLOAT,
    "bool": ir.DataType.BOOL,
}
TAKEN = {"input_ids", "type_ids", "position_ids", "segment_ids", "pooling", "logits", "embedding", *DEEP_OUTPUTS}
LOWEST = float(np.finfo(np.float32).min)


class Graphs(NamedTuple):
    """An artifact's graph, and its deep graph with the Adds that it is to measure; None if no norms are watched."""

    served: bytes
    deep: ir.Model | None
    adds: list[NormAdd]


def last_norm_output(model: ir.Model) -> ir.Value:
    """What the last observed norm gives [R, S, D]; where it is computed elsewhere, what flows into it."""
    norm = exposed_norms(model)[-1]
    assert norm.inputs[0] is not None
    return norm.outputs[0] if norm.outputs[0].uses() or norm.outputs[0].is_graph_output() else norm.inputs[0]


def to_served(model: ir.Model, source: Source, tokens: str, watched: Sequence[Watched] = ()) -> Graphs:
    """`model`, changed in place, as the graph of an artifact; and its deep graph.

    Args:
        model: of `source`, with its statistics exposed.
        tokens: name of the vectors of tokens [R, S, D], which make a text's embedding.
        watched: the norms of which the deep graph gives out what enters and leaves them.

    Raises:
        ExportError: a graph is too large for one file.
    """
    graph = model.graph
    values = {value.name: value for node in graph for value in node.outputs} | {v.name: v for v in graph.inputs}
    free_names(graph, is_taken)
    adds = find_adds(model, watched)
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
    outputs += surgery.watch(watched)
    graph.outputs[:] = outputs
    graph.sort()
    deep = model.clone() if watched else None
    keep(model, lambda name: name not in DEEP_OUTPUTS)
    if deep is not None:
        keep(deep, lambda name: name in DEEP_OUTPUTS)
    try:
        served: bytes = with_raw_weights(model).SerializeToString()
    except Exception as error:  # of protobuf
        raise ExportError(f"{source.file.path} is too large for one file: 2 GB are allowed.") from error
    return Graphs(served, deep, adds)


def deep_content(graphs: Graphs) -> bytes:
    """The deep graph's file, whose weights lie in the served graph's."""
    assert graphs.deep is not None
    proto = with_raw_weights(graphs.deep)
    if graphs.adds:
        measure_adds(proto, graphs.adds)
    return share_weights(proto, graphs.served)


def keep(model: ir.Model, wanted: Callable[[str], bool]) -> None:
    """Leaves `model` with these of its outputs, all inputs, and what it needs for that."""
    model.graph.outputs[:] = [value for value in model.graph.outputs if wanted(str(value.name))]
    LiftConstantsToInitializersPass()(model)  # weights in nodes could not be shared
    RemoveUnusedNodesPass()(model)


def with_raw_weights(model: ir.Model) -> onnx.ModelProto:
    proto = ir.to_proto(model)
    write_raw(proto)
    return proto


def is_taken(name: str) -> bool:
    """Whether a name is that of an input or an output of the served graph, or of what is added to it."""
    return name in TAKEN or name.startswith(("adds", "addnorm."))  # export/adopt/adds.py, norms/building.py


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

    def watch(self, norms: Sequence[Watched]) -> list[ir.Value]:
        """What enters and leaves the norms, [P, S, F] each, norm after norm; nothing if there are none."""
        if not norms:
            return []
        entered, left = DEEP_OUTPUTS
        return [self.joined(entered, [norm.x for norm in norms]), self.joined(left, [norm.y for norm in norms])]

    def joined(self, name: str, values: Sequence[ir.Value]) -> ir.Value:
        """Values side by side, in float32; a Cast that changes nothing is left out by ONNX Runtime."""
        parts = [
            self.add("Cast", [value], f"{name}.{place}", to=ir.DataType.FLOAT) for place, value in enumerate(values)
        ]
        return self.named(name, self.add("Concat", parts, name, axis=AXIS), [*PACKED, "features"])

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
