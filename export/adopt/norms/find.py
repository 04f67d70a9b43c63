"""Finds every LayerNorm and RMSNorm of an ONNX graph that anybody exported, and names it."""

from collections import Counter
from collections.abc import Sequence

import onnx_ir as ir

from export.adopt.norms.centering import subtracts
from export.adopt.norms.names import is_unknown, name_norms
from export.adopt.norms.norm import CENTERED, NOT_KNOWN, Match, Norm, Unobserved
from export.adopt.norms.patterns import UNBIASED, recognize
from export.adopt.norms.probing import Dimensions, Feeds, Tensor, describe, token_shapes
from export.adopt.norms.tracing import width
from export.adopt.norms.unknown import all_norms, listed

UNTOLD, RANK = 0, 3  # axes of what a norm normalizes
OTHER_COUNT = "its mean is not over all its features"
COUNTED = 5e-4  # relative: 1/N is written in float32, or float16


def find_norms(model: ir.Model, batch: Feeds | None = None) -> tuple[list[Norm], list[Unobserved]]:
    """The norms over the features of every token in network order, and all others with the reason.

    Args:
        model: it has no local functions.
        batch: inputs by name. With them norms are told apart that see other numbers of tokens, where the graph does not
            say how many, and that see centered values, where it is not known what centered them.

    Raises:
        ExportError: ONNX Runtime cannot load the graph, or not run it on the batch.
    """
    model.graph.sort()
    recognized = all_norms(model.graph, recognize)
    matches = [found for node, found in recognized if isinstance(found, Match) and node.graph is model.graph]
    tensors = dict(zip((match.node for match in matches), describe(model, [m.x for m in matches], batch), strict=True))
    seen = [tensors[match.node].dimensions for match in matches if not is_unknown(match)]
    usual = usual_dimensions(seen, batch or {})
    norms: list[Norm] = []
    unobserved: list[Unobserved] = []
    told = listed(recognized, {node: len(tensor.dimensions) for node, tensor in tensors.items()})
    for name, (node, found) in zip(name_norms(told), told, strict=True):
        judged = found if isinstance(found, str) else judge(name, found, tensors.get(node), usual)
        if isinstance(judged, Norm):
            norms.append(judged)
        else:
            unobserved.append(Unobserved(name, f"{name} is not observed: {judged}."))
    return norms, unobserved


def judge(name: str, match: Match, tensor: Tensor | None, usual: Dimensions) -> Norm | str:
    """The norm, or why its statistics are not those of every token."""
    if tensor is None:
        return "it is inside a branch, a loop or a scan"
    dimensions, rank = tensor.dimensions, len(tensor.dimensions)
    if is_unknown(match):
        return NOT_KNOWN
    if rank and match.axis not in (-1, rank - 1):
        return f"it normalizes over axis {match.axis}, not over the features of one token"
    if rank not in (UNTOLD, RANK):
        return f"its input has {rank} axes, expected batch, tokens and features"
    if any(is_clear(own) and is_clear(other) and own != other for own, other in zip(dimensions, usual, strict=False)):
        return f"its batch and tokens are {dimensions[:2]}, those of other norms {usual}"
    d_model = dimensions[-1] if rank and isinstance(dimensions[-1], int) else width(match.scale)
    if not isinstance(d_model, int):
        return "its number of features is not fixed"
    if match.divided_by is not None and (why := why_no_mean(match.divided_by - d_model, d_model)):
        return why
    if match.kind == "rms_norm" and tensor.centered and subtracts(match.x):
        return CENTERED
    if any(width(term) not in (None, d_model) for term in (match.scale, match.bias)):
        match = match._replace(y=None)
    return Norm(name, d_model, tensor.dtype, match)


def why_no_mean(off: float, d_model: int) -> str:
    """Why a sum over N + `off` is no mean of N features; empty where it is one."""
    if abs(off + 1) < abs(off):
        return UNBIASED if abs(off + 1) <= COUNTED * d_model else OTHER_COUNT
    return OTHER_COUNT if abs(off) > COUNTED * d_model else ""


def usual_dimensions(all_dimensions: Sequence[Dimensions], batch: Feeds) -> Dimensions:
    """Batch and tokens as they went in, where a norm sees them so; else of most norms."""
    given = [list(shape) for shape in token_shapes(batch)]
    if as_given := [d[:2] for d in all_dimensions if len(d) == RANK and d[:2] in given]:
        return as_given[0]
    axes = [[d[axis] for d in all_dimensions if len(d) == RANK and is_clear(d[axis])] for axis in (0, 1)]
    return [Counter(axis).most_common(1)[0][0] if axis else None for axis in axes]


def is_clear(dimension: int | str | None) -> bool:
    """Whether a dimension is a number, or has a name that ONNX Runtime did not make up."""
    return dimension is not None and not str(dimension).startswith("unk__")
