"""Asserts that hooks give the statistics that the service records, and what they give beyond that in float64."""

# N valid tokens, D d_model

import copy
from collections.abc import Sequence

import numpy as np
import torch

from benchmarks.cost.norm_hooks import NormHooks, RunningMoments
from export.graph import as_tensors
from model.network.encoder import Encoder as Network
from model.network.layers import AddNorm
from runtime.graph.encoder import Encoder
from runtime.graph.packing import Tokens, pack
from runtime.statistics.moments import Moments
from runtime.statistics.recorder import NormRecorder

TOLERANCE = 1e-4  # of a column's largest magnitude
MOVED = 1e-3  # share of tokens that may lie in a neighbouring bucket, by rounding
BATCH = 8


def watch(network: Network, sequences: Sequence[Tokens], fold_tokens: int = 0, deep: bool = False) -> NormHooks:
    """What hooks see of the sequences."""
    watched = copy.deepcopy(network)
    hooks = NormHooks(watched, fold_tokens, deep)
    with torch.inference_mode():
        for start in range(0, len(sequences), BATCH):
            watched(*as_tensors(pack(sequences[start : start + BATCH])))
    hooks.fold()
    return hooks


def check_norms(network: Network, encoder: Encoder, sequences: Sequence[Tokens], fold_tokens: int = 0) -> None:
    """Compares hooks on the network with the recorder behind its graph."""
    recorder = NormRecorder(encoder.manifest.layers)
    for start in range(0, len(sequences), BATCH):
        recorder.observe(encoder.run(sequences[start : start + BATCH]))
    expected = recorder.state()
    for layer, seen in enumerate(watch(network, sequences, fold_tokens).norms):
        columns = slice(2 * layer, 2 * layer + 2)
        parts = (getattr(expected.moments, name)[columns] for name in Moments.__slots__)
        assert_same(seen.moments, Moments(*parts))
        counted, recorded = np.cumsum(seen.histograms.numpy(), 1), np.cumsum(expected.histograms[columns], 1)
        assert (counted[:, -1] == recorded[:, -1]).all()
        assert (np.abs(counted - recorded) <= MOVED * expected.tokens).all(), f"histogram of layer {layer}"


def check_deep(network: Network, sequences: Sequence[Tokens]) -> None:
    """Compares what deep hooks see with the same numbers of whole arrays."""
    hooks = watch(network, sequences, deep=True)
    outputs, residuals, updates = whole_arrays(network, sequences)
    for seen, values in zip(hooks.outputs, outputs, strict=True):
        assert_same(seen, Moments.of(values, np.isfinite(values)))
    for watched, residual, update in zip(hooks.updates, residuals, updates, strict=True):
        length, added = np.linalg.norm(residual, axis=1), np.linalg.norm(update, axis=1)
        values = np.column_stack([added / length, (residual * update).sum(1) / (length * added)])
        assert_same(watched.moments, Moments.of(values, np.isfinite(values)))


def whole_arrays(network: Network, sequences: Sequence[Tokens]) -> tuple[list[np.ndarray], ...]:
    """Every norm's output, every Add & Norm's residual and update [N, D], in float64, in network order."""
    batch = pack(sequences)
    outputs: list[np.ndarray] = []
    residuals: list[np.ndarray] = []
    updates: list[np.ndarray] = []

    def keep(place: list[np.ndarray], values: torch.Tensor) -> None:
        place.append(values.flatten(0, 1).numpy()[batch.token_index])

    wide = copy.deepcopy(network).double()
    for _, norm in wide.norms():
        norm.register_forward_hook(lambda _module, _inputs, output: keep(outputs, output[0]))
    for module in wide.modules():
        if isinstance(module, AddNorm):
            module.register_forward_hook(lambda _module, inputs, _output: keep(residuals, inputs[0]))
            module.sublayer.register_forward_hook(lambda _module, _inputs, output: keep(updates, output))
    tensors = (tensor.double() if tensor.is_floating_point() else tensor for tensor in as_tensors(batch))
    with torch.inference_mode():
        wide(*tensors)
    return outputs, residuals, updates


def assert_same(found: RunningMoments, expected: Moments) -> None:
    """Counts agree exactly; means, deviations and extremes to TOLERANCE of the column's largest magnitude."""
    assert (expected.count == found.count).all()
    scale = np.maximum(np.abs(expected.minimum), np.abs(expected.maximum))
    std = np.sqrt(found.m2.numpy() / found.count)
    for name, values in {"mean": found.mean.numpy(), "std": std}.items():
        assert (np.abs(values - getattr(expected, name)) <= TOLERANCE * scale).all(), name
    for name in ("minimum", "maximum"):
        assert (np.abs(getattr(found, name).numpy() - getattr(expected, name)) <= TOLERANCE * scale).all(), name
