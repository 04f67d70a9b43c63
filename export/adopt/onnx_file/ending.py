"""What a classifier's file ends in: logits, or scores of them, which are computed while serving."""

# R rows, C classes

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.adopt.norms.moments import axes_of
from export.adopt.norms.tracing import SPREAD, made_by, origin
from export.adopt.onnx_file.graph import OnnxFile
from runtime.errors import ExportError
from runtime.manifest import Activation

ENDS: dict[str, Activation] = {"Softmax": "softmax", "LogSoftmax": "softmax", "Sigmoid": "sigmoid"}
CLASSES = (-1, 1)  # their axis
NEAR, FEWEST = 1e-4, 4  # relative; rows of which it can be said what all of them are like
ONE = 1e-3  # how far from 1 a sum of scores is that were rounded to half precision
EDGE, SURE = 0.01, 0.5  # how near to 0 or 1 some scores are; a score that one with others near 0 has beside it


def before_activation(file: OnnxFile, output: str) -> tuple[str, Activation | None]:
    """The logits of a file that ends in a softmax or a sigmoid, and which of them; else the output as it is."""
    value = next(value for value in file.parse().graph.outputs if value.name == output)
    last = origin(value)  # a file in half precision has a Cast behind it
    node = last.producer() if last is not None else None
    if node is not None and node.op_type in ENDS and node.attributes.get_int("axis", -1) in CLASSES:
        assert node.inputs[0] is not None
        return str(node.inputs[0].name), ENDS[node.op_type]
    logits = written_out(node) if node is not None else None
    return (output, None) if logits is None else (str(logits.name), "softmax")


def written_out(node: ir.Node) -> ir.Value | None:
    """x of exp(x) / sum(exp(x)), perhaps less its maximum."""
    if node.op_type != "Div":
        return None
    power, total = made_by(node.inputs[0], "Exp"), made_by(node.inputs[1], "ReduceSum", SPREAD)
    if power is None or total is None or origin(total.inputs[0]) is not power.outputs[0]:
        return None
    if len(axes := axes_of(total)) != 1 or axes[0] not in CLASSES:
        return None
    less = made_by(power.inputs[0], "Sub")
    most = made_by(less.inputs[1], "ReduceMax", SPREAD) if less is not None else None
    if less is not None and most is not None and origin(most.inputs[0]) is origin(less.inputs[0]):
        return less.inputs[0]
    return power.inputs[0]


def refuse_probabilities(path: Path, output: str, rows_RC: NDArray[Any]) -> None:
    """Raises ExportError where what should be logits are scores already, of which serving would make others."""
    if looks_like_probabilities(rows_RC.astype(np.float64)):
        raise ExportError(
            f"{path} gives {output} that look like probabilities, and no softmax or sigmoid is found at its end: "
            "export it with its logits, or name --activation if these are the logits."
        )


def looks_like_probabilities(rows_RC: NDArray[np.float64]) -> bool:
    """Whether those of every row have one sum, or all are from 0 to 1 as sigmoids are."""
    few = len(rows_RC) < FEWEST or rows_RC.shape[-1] < 2
    if few or not np.isfinite(rows_RC).all() or rows_RC.min() < 0 or not rows_RC.any():
        return False
    sums, most = rows_RC.sum(-1), rows_RC.max()
    if np.abs(sums - 1).max() <= ONE:
        return True
    differ = np.ptp(rows_RC, axis=0).max() > NEAR * most
    return bool(differ and (np.ptp(sums) <= NEAR * sums.mean() or like_sigmoids(rows_RC)))


def like_sigmoids(rows_RC: NDArray[np.float64]) -> bool:
    """Whether all are from 0 to 1, and some near there. Logits may be small, and those behind a ReLU are often 0."""
    least, most = rows_RC.min(), rows_RC.max()
    return bool(1 - EDGE <= most <= 1 + NEAR or (SURE <= most <= 1 and 0 < least <= EDGE))
