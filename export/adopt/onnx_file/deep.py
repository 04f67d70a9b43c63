"""The deep graph of a file: the served graph's network, giving out what enters and leaves each norm that is observed.

It shares the served graph's weights (export/weights.py). What leaves a norm is what the file itself computes, and is
verified against float64; where it is not found for each norm, the file is served without a deep graph.
"""

# N valid tokens, D features of a norm, F features of all norms

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.adopt.adds import NormAdd, adds_between, expect_adds
from export.adopt.baseline import DEEP_TOKENS, in_runs
from export.adopt.norms.expose import exposed_norms
from export.adopt.norms.norm import Kind, Norm
from export.adopt.norms.outputs import Output
from export.adopt.norms.tracing import constant, origin, placement_of
from export.adopt.norms.verify import EXACT, LOWER
from export.adopt.parity import relative
from runtime.errors import ExportError
from runtime.graph.deep import TOLERANCE, DeepGraph
from runtime.graph.packing import Tokens

Floats = NDArray[np.float64]
HALF = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
CASTS = frozenset({"Cast", "Identity"})
DEEP_OUTPUTS = ("norm_inputs", "norm_outputs")


@dataclass(frozen=True, slots=True)
class Watched:
    """A norm whose input and output the deep graph gives out.

    Attributes:
        x: what enters it, [R, S, D].
        y: what leaves it, [R, S, D].
        scale: its weight [D], or one number.
        bias: [D]; None where it has none.
    """

    name: str
    d_model: int
    kind: Kind
    eps: float
    x: ir.Value
    y: ir.Value
    scale: Floats
    bias: Floats | None

    def expect(self, x_ND: Floats) -> Floats:
        """What leaves it [N, D]."""
        if self.kind == "layer_norm":
            x_ND = x_ND - x_ND.mean(1, keepdims=True)
        y_ND: Floats = x_ND / np.sqrt((x_ND**2).mean(1, keepdims=True) + self.eps) * self.scale
        return y_ND if self.bias is None else y_ND + self.bias


def watch(model: ir.Model, norms: Sequence[Norm], outputs: Sequence[Output]) -> list[Watched] | str:
    """The norms as a deep graph gives them out, in order; or why there can be none, in a sentence.

    Args:
        model: its statistics were exposed.
        outputs: what each norm gives, as `expose` found it.
    """
    found: list[Watched] = []
    for norm, node, output in zip(norms, exposed_norms(model), outputs, strict=True):
        x, terms = node.inputs[0], weights_of(output)
        if x is None or output.y is None:
            return f"{norm.name} is written as several operators, and which value it gives was not found."
        if terms is None:
            return f"The weights of {norm.name} are computed by the graph, so what it gives cannot be verified."
        found.append(Watched(norm.name, norm.d_model, norm.kind, norm.eps, x, output.y, *terms))
    return found


def weights_of(output: Output) -> tuple[Floats, Floats | None] | None:
    """A norm's weight and its bias; None where these are not constants."""
    scale, bias = (constant(term) for term in output[1:])
    if scale is None or (bias is None and output.bias is not None):
        return None
    return scale.reshape(-1).astype(np.float64), None if bias is None else bias.reshape(-1).astype(np.float64)


def find_adds(model: ir.Model, norms: Sequence[Watched]) -> list[NormAdd]:
    """The residual Adds between what norms see; none in half precision, whose sums are too coarse to verify them."""
    weights = [value.const_value for value in model.graph.initializers.values()]
    if any(weight is not None and weight.dtype in HALF for weight in weights):
        return []
    entered = [origin(norm.x, CASTS) or norm.x for norm in norms]  # Llama's RMSNorm casts what it sees
    return adds_between(entered, [norm.y for norm in norms], [placement_of(norm.x) for norm in norms])


def verify_deep(
    deep: DeepGraph, norms: Sequence[Watched], adds: Sequence[NormAdd], sequences: Sequence[Tokens]
) -> float:
    """Checks what leaves each norm, and what Adds add, against float64; what enters against the served statistics.

    Returns:
        The largest error: of what leaves a norm relative to its largest value, of a mean relative to sigma, of 1/sigma
        relative.

    Raises:
        ExportError: it is too large.
    """
    exact = deep.encoder.manifest.precision_kind == "fp32"
    # In lower precision the deep graph's operators are fused otherwise, and round otherwise, than the served one's.
    of_outputs, of_statistics = (EXACT.statistics,) * 2 if exact else (LOWER.statistics, TOLERANCE)
    worst = 0.0
    for run in in_runs(range(len(sequences)), [len(sequence) for sequence in sequences], DEEP_TOKENS):
        for batch in deep.batches([sequences[place] for place in run]):
            entered, left, added = (values.astype(np.float64) for values in deep.run(batch))
            errors = output_errors(norms, entered, left)
            if adds:
                errors["an Add"] = relative(added, expect_adds(entered, left, deep.layers, adds))
            name = max(errors, key=lambda each: np.nan_to_num(errors[each], nan=np.inf))
            difference = deep.difference(batch)
            if not errors[name] <= of_outputs:
                raise ExportError(f"What leaves {name} is {errors[name]:.1e} from float64, allowed are {of_outputs:g}.")
            if not difference <= of_statistics:
                raise ExportError(
                    f"What enters the norms has other statistics than those served, by {difference:.1e}, allowed are "
                    f"{of_statistics:g}."
                )
            worst = max(worst, errors[name], difference)
    return worst


def output_errors(norms: Sequence[Watched], entered: Floats, left: Floats) -> dict[str, float]:
    """By norm, how far what leaves it is from float64, given what enters [N, F]."""
    ends = np.cumsum([norm.d_model for norm in norms])[:-1]
    parts = (np.split(values, ends, axis=1) for values in (entered, left))
    return {norm.name: relative(y, norm.expect(x)) for norm, x, y in zip(norms, *parts, strict=True)}
