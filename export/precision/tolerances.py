"""How far a graph may be from the network that it came from, by its precision."""

from dataclasses import dataclass

from runtime.precision import PrecisionKind


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a graph may be from PyTorch.

    Attributes:
        logits: absolute, on random inputs.
        statistics: of one token; of its sigma for a mean, relative for 1/sigma.
        alone: absolute, a logit packed with others against alone.
    """

    logits: float
    statistics: float
    alone: float


# Below float32, three times and more what trained encoders showed; accuracy is compared too (lower.py).
TOLERANCES: dict[PrecisionKind, Tolerance] = {
    "fp32": Tolerance(1e-4, 1e-4, 1e-4),
    "fp16": Tolerance(0.1, 1e-2, 1e-2),
    "bf16": Tolerance(0.5, 0.1, 0.1),
    "int8": Tolerance(1.0, 0.2, 0.5),
}

# Least cosines of vectors with those of float32: on average, and the worst. What is rounded differently in a batch may
# fall into the next of int8's 256 steps.
Cosines = tuple[float, float]
COSINES: dict[PrecisionKind, Cosines] = {
    "bf16": (0.999, 0.995),
    "fp16": (0.9999, 0.9999),
    "int8": (0.99, 0.95),
}
