"""Compares a foreign graph before and after its statistics were exposed, and these with float64."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from export.adopt.norms.expose import OUTPUT
from export.adopt.norms.norm import Norm
from export.adopt.norms.probing import Feeds, load, run, token_shapes, with_outputs
from runtime.errors import ExportError
from runtime.precision import PrecisionKind

IN_INTEGERS = ("Quantize", "Integer", "QLinear", "NBits")  # in the names of operators
HALF = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a graph may be off.

    Attributes:
        outputs: relative to the largest value of an output.
        statistics: of one token; of its sigma for a mean, relative for 1/sigma.
    """

    outputs: float
    statistics: float


EXACT = Tolerance(1e-5, 1e-3)
LOWER = Tolerance(2e-2, 1e-2)  # float16 and integers: a norm that is computed more exactly may round others elsewhere


@dataclass(frozen=True, slots=True)
class Agreement:
    """What `verify` measured.

    Attributes:
        outputs: how far the model's own outputs moved, relative to the largest value of each.
        statistics: by norm, how far they are from float64: of sigma for a mean, relative for 1/sigma.
    """

    outputs: float
    statistics: dict[str, float]


def verify(before: bytes, after: bytes, norms: Sequence[Norm], batches: Iterable[Feeds]) -> Agreement:
    """Checks that the graph's own outputs are what they were, and its statistics what they should be.

    Args:
        before: the graph as it came; weights that lie in other files must have been read into it.
        after: the same with the output `norm_statistics`.
        norms: those whose statistics it holds.
        batches: inputs by name. Integers [batch, tokens] among them tell how many tokens there are.

    Raises:
        ExportError: it cannot be run, or something is further off than is allowed (EXACT, LOWER).
    """
    tolerance = EXACT if precision_of(before) == "fp32" else LOWER
    probed, names = probe(onnx.load_from_string(after))
    original, exposed = load(before), load(probed)
    own = [output.name for output in original.get_outputs()]
    moved, errors = 0.0, dict.fromkeys((norm.name for norm in norms), 0.0)
    for feeds in batches:
        new = run(exposed, feeds)
        moved = max(moved, check_outputs(run(original, feeds), {name: new[name] for name in own}, tolerance.outputs))
        check_tokens(new[OUTPUT], feeds, norms)
        for place, (norm, name) in enumerate(zip(norms, names, strict=True)):
            found = new[OUTPUT][..., 2 * place : 2 * place + 2]
            errors[norm.name] = max(errors[norm.name], check_norm(norm, found, new[name], tolerance.statistics))
    return Agreement(moved, errors)


def precision_of(model: bytes) -> PrecisionKind:
    """What a graph computes in, where that is less than float32: integers or float16."""
    graph = onnx.load_from_string(model).graph
    if any(word in node.op_type for node in graph.node for word in IN_INTEGERS):
        return "int8"
    return "fp16" if any(tensor.data_type in HALF for tensor in graph.initializer) else "fp32"


def probe(proto: onnx.ModelProto) -> tuple[bytes, list[str]]:
    """A graph that hands out what every norm normalizes too, and the names of that in order."""
    makers = {output: node for node in proto.graph.node for output in node.output}
    columns = [makers[column] for column in makers[OUTPUT].input[0::2]]
    layer_norms = [makers[node.input[0]] if node.op_type == "Cast" else node for node in columns]
    names: list[str] = [node.input[0] for node in layer_norms]
    return with_outputs(proto, names).SerializeToString(), names


def check_outputs(old: Feeds, new: Feeds, tolerance: float) -> float:
    """How far outputs moved, relative to the largest value of each."""
    moved = {name: distance(values, new[name]) for name, values in old.items()}
    for name, error in moved.items():
        if not error <= tolerance:
            raise ExportError(f"Output {name} moved by {error:.1e} of its largest value, allowed are {tolerance:.0e}.")
    return max(moved.values())


def distance(old: NDArray[Any], new: NDArray[Any]) -> float:
    """The largest difference over the largest value; infinite where shapes or what is not finite differ."""
    if np.array_equal(old, new, equal_nan=old.dtype.kind == "f"):
        return 0.0
    finite = np.isfinite(old)
    if old.shape != new.shape or not np.array_equal(old[~finite], new[~np.isfinite(new)], equal_nan=True):
        return float("inf")
    if not np.array_equal(finite, np.isfinite(new)):
        return float("inf")
    wide = old[finite].astype(np.float64)
    return float(np.abs(new[finite] - wide).max() / max(np.abs(wide).max(), np.finfo(np.float32).tiny))


def check_tokens(statistics: NDArray[np.float32], feeds: Feeds, norms: Sequence[Norm]) -> None:
    """Statistics are of tokens: as many as there are token ids."""
    shapes = token_shapes(feeds)
    if shapes and statistics.shape[:2] not in shapes:
        raise ExportError(
            f"The norms, of which the first is {norms[0].name}, see {statistics.shape[:2]} tokens where {min(shapes)} "
            "went in, expected batch first and one place for every token."
        )


def check_norm(norm: Norm, found: NDArray[np.float32], x: NDArray[Any], tolerance: float) -> float:
    """How far a norm's statistics are from those of x in float64."""
    wide = x.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        inv_std = 1 / np.sqrt(wide.var(-1) + norm.eps)
    mean_error = np.abs(found[..., 0] - wide.mean(-1)) * inv_std
    error = float(max(mean_error.max(), np.abs(found[..., 1] / inv_std - 1).max()))
    if not error <= tolerance:
        raise ExportError(f"The statistics of {norm.name} are {error:.1e} from float64, allowed are {tolerance:.0e}.")
    return error
