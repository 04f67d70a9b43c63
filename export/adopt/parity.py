"""Whether a graph gives what the adopted network gives: the answers and the statistics, packed and alone."""

# R rows, N valid tokens, L norm layers

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from export.adopt.packed import PackedTransformer
from export.graph import as_tensors
from runtime.errors import ExportError
from runtime.graph.batch import EncodedBatch
from runtime.graph.encoder import Encoder
from runtime.graph.packing import Tokens, pack

# of the largest value of its kind; a mean of its token's sigma, 1/sigma relative
LIMITS = {"logits": 1e-5, "embedding": 1e-5, "means": 1e-4, "inverse_deviations": 1e-4, "packed_against_alone": 1e-5}


@dataclass(frozen=True, slots=True)
class Expected:
    """What PyTorch gives in float64.

    Attributes:
        answers: logits [R, C], where the network has them, and embedding [R, D]; the first by transformers' own call.
        norm_statistics: [N, 2L], valid tokens only, row after row.
    """

    answers: dict[str, NDArray[np.float64]]
    norm_statistics: NDArray[np.float64]


class Reference:
    """The network in float64, one text at a time, by transformers' own call: what no packing can have spoilt."""

    def __init__(self, network: PackedTransformer) -> None:
        self.network = network.eval()
        self.names = list(network.outputs)

    @torch.no_grad()
    def run(self, sequences: Sequence[Tokens]) -> Expected:
        found: dict[str, list[NDArray[np.float64]]] = {name: [] for name in self.names}
        self.network.double()
        try:
            for sequence in sequences:
                tensors = as_tensors(pack([sequence], pooling=self.network.pooling))
                wide = [tensor.double() if tensor.is_floating_point() else tensor for tensor in tensors]
                outputs = dict(zip(self.names, self.network(*wide), strict=True))
                outputs[self.names[0]] = self.network.plain(wide[0], *wide[3:])
                for name, output in outputs.items():
                    found[name].append(output.numpy())
        finally:
            self.network.float()  # what float64 makes of float32 goes back to the same
        statistics = np.concatenate([rows[0] for rows in found.pop("norm_statistics")])
        return Expected({name: np.concatenate(rows) for name, rows in found.items()}, statistics)


def verify(encoder: Encoder, reference: Reference, sequences: Sequence[Tokens]) -> dict[str, float]:
    """Compares the graph, on packed batches, with the reference.

    Returns:
        The largest error of each kind that was met.

    Raises:
        ExportError: one is too large.
    """
    expected, found = reference.run(sequences), encoder.run(sequences)
    errors = value_errors(found, expected)
    alone = np.concatenate([encoder.run([sequence]).embedding for sequence in sequences])
    errors["packed_against_alone"] = relative(found.embedding, alone)
    for kind, error in errors.items():
        if not error <= LIMITS[kind]:
            raise ExportError(f"The graph's {kind} differ from PyTorch's by {error:.2e}: nothing was written.")
    return errors


def value_errors(found: EncodedBatch, expected: Expected) -> dict[str, float]:
    errors = {name: relative(getattr(found, name), values) for name, values in expected.answers.items()}
    inv_std = expected.norm_statistics[:, 1::2]
    means = np.abs(found.norm_statistics[:, 0::2] - expected.norm_statistics[:, 0::2]) * inv_std
    deviations = np.abs(found.norm_statistics[:, 1::2] / inv_std - 1)
    if means.size:
        errors |= {"means": float(means.max()), "inverse_deviations": float(deviations.max())}
    return errors


def relative(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """The largest difference over the largest value."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())
