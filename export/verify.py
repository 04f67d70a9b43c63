"""Compares an exported graph with the model it came from: names, then shapes, then values, each with its own error."""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from export.deep import OUTPUTS, DeepEncoder
from export.graph import ServedEncoder, as_tensors
from export.precision.tolerances import TOLERANCES
from model.network.config import EncoderConfig
from runtime.errors import ExportError
from runtime.graph.batch import EncodedBatch
from runtime.graph.deep import DeepGraph
from runtime.graph.encoder import Encoder
from runtime.graph.packing import PackedBatch, Tokens, pack

WIDTHS = (1, 40, 130)  # pack widths: as short as can be, the served one, long


@dataclass(frozen=True, slots=True)
class Expected:
    """What PyTorch gives for a batch: logits in float32, everything else in float64.

    Attributes:
        norm_statistics: [N, 2L], valid tokens only, row after row.
        feature_moments: [BatchNorm layers, 2, D].
    """

    logits: NDArray[np.float32]
    logits64: NDArray[np.float64]
    norm_statistics: NDArray[np.float64]
    feature_moments: NDArray[np.float64]


def spread(config: EncoderConfig, seed: int = 0) -> list[list[Tokens]]:
    """Batches of random sequences: one token, one row, full length, many rows, mixed."""
    rng = np.random.default_rng(seed)
    longest = config.max_tokens
    mixed = rng.integers(1, longest + 1, 17).tolist()
    lengths = [[1], [2], [longest], [1] * 9, [longest, 1, longest], mixed]
    return [[random_sequence(config, length, rng) for length in batch] for batch in lengths]


def random_sequence(config: EncoderConfig, length: int, rng: np.random.Generator) -> Tokens:
    if config.vocab_size:
        return rng.integers(0, config.vocab_size, length)
    return rng.standard_normal((length, config.num_features)).astype(np.float32)


@torch.inference_mode()
def expect(served: ServedEncoder, batch: PackedBatch) -> Expected:
    """The float64 reference for a batch."""
    inputs = as_tensors(batch)
    double = copy.deepcopy(served).double()
    wide = tuple(tensor.double() if tensor.is_floating_point() else tensor for tensor in inputs)
    logits64, _, statistics, *moments = double(*wide)
    return Expected(
        served(*inputs)[0].numpy(),
        logits64.numpy(),
        statistics.flatten(0, 1).numpy()[batch.token_index],
        moments[0].numpy() if moments else np.empty((0, 2, served.encoder.config.d_model)),
    )


def verify(encoder: Encoder, served: ServedEncoder) -> dict[str, float]:
    """Checks the graph in `encoder` against `served`, as closely as its precision allows.

    Returns:
        The largest error of each kind that was met.

    Raises:
        ExportError: a name, a shape or a value differs.
    """
    check_names(encoder, served)
    errors: dict[str, float] = {}
    for sequences in spread(served.encoder.config):
        for width in WIDTHS:
            batch = pack(sequences, width)
            found, expected = encoder.run_packed(batch), expect(served, batch)
            check_shapes(found, expected)
            for kind, error in value_errors(found, expected).items():
                errors[kind] = max(errors.get(kind, 0.0), error)
        errors["packed_against_alone"] = max(errors.get("packed_against_alone", 0.0), alone_error(encoder, sequences))
    tolerance = TOLERANCES[encoder.manifest.precision_kind]
    limits = {"logits": tolerance.logits, "packed_against_alone": tolerance.alone}
    for kind, error in errors.items():
        if not error <= limits.get(kind, tolerance.statistics):
            raise ExportError(f"The graph's {kind} differ from PyTorch's by {error:.2e}: nothing was written.")
    return errors


def check_names(encoder: Encoder, served: ServedEncoder) -> None:
    inputs = [item.name for item in encoder.session.get_inputs()]
    for found, expected in ((inputs, served.input_names), (encoder.output_names, list(served.outputs))):
        if found != expected:
            raise ExportError(f"The graph has {', '.join(found)} where {', '.join(expected)} were exported.")


def check_shapes(found: EncodedBatch, expected: Expected) -> None:
    for name in ("logits", "norm_statistics", "feature_moments"):
        ours, theirs = np.shape(getattr(found, name)), np.shape(getattr(expected, name))
        if ours != theirs:
            raise ExportError(f"The graph's {name} have shape {ours}, PyTorch's {theirs}: nothing was written.")


def value_errors(found: EncodedBatch, expected: Expected) -> dict[str, float]:
    inv_std = expected.norm_statistics[:, 1::2]
    mean_error = np.abs(found.norm_statistics[:, 0::2] - expected.norm_statistics[:, 0::2]) * inv_std
    errors = {
        "logits": float(np.abs(found.logits - expected.logits).max()),
        "means": float(mean_error.max()),
        "inverse_deviations": float(np.abs(found.norm_statistics[:, 1::2] / inv_std - 1).max()),
    }
    if len(expected.feature_moments):
        scale = np.maximum(1.0, np.abs(expected.feature_moments))
        errors["feature_moments"] = float((np.abs(found.feature_moments - expected.feature_moments) / scale).max())
    return errors


def alone_error(encoder: Encoder, sequences: list[Tokens]) -> float:
    """Largest difference of a logit between a sequence packed with others and alone."""
    together = encoder.run(sequences).logits
    alone = np.concatenate([encoder.run([sequence]).logits for sequence in sequences])
    return float(np.abs(together - alone).max())


@torch.inference_mode()
def verify_deep(deep: DeepGraph, module: DeepEncoder) -> float:
    """The largest error of the deep graph against `module` in float64, relative to the largest value of its kind.

    Raises:
        ExportError: it is too large.
    """
    error, double = 0.0, copy.deepcopy(module).double()
    for sequences in spread(module.encoder.config):
        batch = pack(sequences)
        wide = [tensor.double() if tensor.is_floating_point() else tensor for tensor in as_tensors(batch)]
        for found, expected in zip(deep.run(batch), double(*wide)[-len(OUTPUTS) :], strict=True):
            values = expected.flatten(0, 1).flatten(1).numpy()[batch.token_index]
            error = max(error, float(np.abs(found - values).max() / np.abs(values).max()))
    if not error <= TOLERANCES["fp32"].statistics:
        raise ExportError(f"The deep graph differs from PyTorch by {error:.2e}: nothing was written.")
    return error
