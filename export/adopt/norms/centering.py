"""Tells whether a graph itself takes something off what an RMSNorm normalizes: a mean, if that is 0 then.

Other networks see centered values, too: behind a LayerNorm without weights, or where their weights were centered.
"""

import numpy as np
import onnx_ir as ir

from export.adopt.norms.moments import differences, times_number
from export.adopt.norms.tracing import SPREAD, constant, made_by, origin

NEAR, NEAR_ONE = 0.1, 1e-3  # of 1/D; of the 1 on the diagonal, which float16 rounds more


def subtracts(x: ir.Value) -> bool:
    """Whether x is a difference, perhaps times a number, or a product with the matrix that takes the mean off."""
    term, _, factor = times_number(x)
    found = [x] if factor is None else [x, term]
    return any(differences(value) or adds_negative(value) or centers(value) for value in found)


def adds_negative(value: ir.Value | None) -> bool:
    """Whether something times a negative number is added."""
    total = made_by(value, "Add")
    factors = [times_number(origin(term, SPREAD))[2] for term in total.inputs] if total else []
    return any(factor is not None and factor < 0 for factor in factors)


def centers(value: ir.Value | None) -> bool:
    """Whether a value is a product with I - 1/D."""
    product = made_by(value, "MatMul") or made_by(value, "Gemm")
    matrix = constant(product.inputs[1]) if product else None
    if matrix is None or matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        return False
    size = len(matrix)
    one = np.eye(size)
    return bool((np.abs(matrix - (one - 1 / size)) <= NEAR / size + NEAR_ONE * one).all())
