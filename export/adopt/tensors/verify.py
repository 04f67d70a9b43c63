"""Compares a graph before and after its statistics were sampled, these with float64, and rows together with alone."""

# R rows, U units that are looked at, L norms

from collections.abc import Sequence

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from export.adopt.norms.probing import Feeds, load, run, with_outputs
from export.adopt.norms.verify import EXACT, LOWER, check_outputs, precision_of
from export.adopt.tensors.norms import TensorNorm
from export.adopt.tensors.units import expected_sample, samples_of
from runtime.errors import ExportError
from runtime.graph.tensor_graph import MOMENTS, STATISTICS

ALONE = 1e-4  # how far a unit's statistics may be from those of its row alone: of sigma, and relative


def statistics_errors(
    model: ir.Model, before: bytes, norms: Sequence[TensorNorm], batches: Sequence[Feeds], fixed: bool
) -> tuple[float, dict[str, float]]:
    """How far the network's own outputs moved, and how far each norm's statistics are from float64.

    Args:
        model: with its statistics exposed.
        before: the file as it came.
        batches: inputs by name.

    Raises:
        ExportError: something is further off than is allowed.
    """
    tolerance = EXACT if precision_of(before) == "fp32" else LOWER
    proto = ir.to_proto(model)
    served = proto.SerializeToString()
    names = [str(norm.x.name) for norm in norms]
    probed = load(with_outputs(onnx.load_from_string(served), names).SerializeToString())
    original, after = load(before), load(served)
    own = [output.name for output in original.get_outputs()]
    moved, errors = 0.0, dict.fromkeys((norm.name for norm in norms), 0.0)
    for feeds in batches:
        new, seen = run(after, feeds), run(probed, feeds)
        old = {name: values for name, values in run(original, feeds).items() if name in own and name in new}
        moved = max(moved, check_outputs(old, {name: new[name] for name in old}, tolerance.outputs))
        rows = len(next(iter(feeds.values())))
        for place, norm in enumerate(norms):
            x = expected_sample(norm, seen[str(norm.x.name)], rows, samples_of(norms), fixed)
            error = norm_error(norms, seen, place, x)
            if not error <= tolerance.statistics:
                raise ExportError(
                    f"The statistics of {norm.name} are {error:.1e} from float64, allowed are "
                    f"{tolerance.statistics:.0e}."
                )
            errors[norm.name] = max(errors[norm.name], error)
    return moved, errors


def norm_error(norms: Sequence[TensorNorm], seen: Feeds, place: int, x: NDArray[np.float64]) -> float:
    """How far one norm's statistics are from those of x [R, U, D]: of sigma for means, relative for 1/sigma."""
    norm = norms[place]
    found, error = seen[STATISTICS][..., 2 * place : 2 * place + 2], 0.0
    if norm.kind == "batch_norm":
        mean, variance = seen[MOMENTS][:, features_of(norms, place)]
        wide = x.reshape(-1, norm.features)
        size = np.maximum(wide.std(0), norm.standard[1])  # a single row has no deviation
        error = float(max((np.abs(mean - wide.mean(0)) / size).max(), (np.abs(variance - wide.var(0)) / size**2).max()))
        center, deviation = norm.standard
        x = (x - center) / deviation
    inv_std = 1 / np.sqrt(x.var(-1) + norm.eps)
    mean_error = np.abs(found[..., 0] - x.mean(-1)) * inv_std
    return float(max(error, mean_error.max(), np.abs(found[..., 1] / inv_std - 1).max()))


def features_of(norms: Sequence[TensorNorm], place: int) -> slice:
    """Where the features of a BatchNorm are among those of all."""
    start = sum(norm.features for norm in norms[:place] if norm.channels_first)
    return slice(start, start + norms[place].features)


def mixed_norms(model: bytes, norms: Sequence[TensorNorm], rows: Sequence[Feeds], together: Feeds) -> list[str]:
    """Names of the norms whose statistics of a row change with the rows beside it: they do not see one row at a time.

    Args:
        rows: inputs of one row each.
        together: the same rows at once.
    """
    session = load(model)
    alone = np.concatenate([run(session, row)[STATISTICS] for row in rows])
    found = run(session, together)[STATISTICS]
    mixed = []
    for place, norm in enumerate(norms):
        inv_std = alone[..., 2 * place + 1]
        means = np.abs(found[..., 2 * place] - alone[..., 2 * place]) * inv_std
        if not max(means.max(), np.abs(found[..., 2 * place + 1] / inv_std - 1).max()) <= ALONE:
            mixed.append(norm.name)
    return mixed
