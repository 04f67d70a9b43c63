"""The deep graph of an adopted encoder: what enters and leaves each norm that is observed, and what the Adds add.

It is the same network as the served graph's, and shares its weights (export/deep.py).
"""

# P packs, S tokens per pack, N valid tokens, D d_model, A Adds, F features: the sum of the norms' d_model

from collections.abc import Sequence

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from export.adopt.adds import NormAdd, expect_adds, find_adds, measure_adds
from export.adopt.baseline import DEEP_TOKENS, in_runs
from export.adopt.parity import relative
from export.graph import as_tensors, to_onnx
from export.precision.tolerances import TOLERANCES
from model.pretrained.packed import PackedTransformer
from runtime.errors import ExportError
from runtime.graph.deep import DeepGraph
from runtime.graph.packing import PACKED, PackedBatch, Tokens, pack

Floats = NDArray[np.float64]


class DeepTransformer(nn.Module):
    """An encoder with all outputs that are served, and `norm_inputs` and `norm_outputs` [P, S, F]."""

    def __init__(self, network: PackedTransformer) -> None:
        super().__init__()
        self.network = network
        self.outputs = network.outputs | {"norm_inputs": PACKED, "norm_outputs": PACKED}

    @property
    def input_names(self) -> list[str]:
        return self.network.input_names

    @property
    def num_heads(self) -> int:
        return self.network.num_heads

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        segment_ids: Tensor,
        pooling: Tensor,
        type_ids: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        entered: list[Tensor] = []
        left: list[Tensor] = []

        def watch_norm(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            entered.append(inputs[0])
            left.append(output)

        hooks = [norm.register_forward_hook(watch_norm) for norm in self.network.observed_norms()]
        try:
            served = self.network(input_ids, position_ids, segment_ids, pooling, type_ids)
        finally:
            for hook in hooks:
                hook.remove()
        return *served, torch.cat(entered, -1), torch.cat(left, -1)


def to_both(module: DeepTransformer, example: PackedBatch) -> tuple[onnx.ModelProto, list[NormAdd]]:
    """The graph with all outputs, served and deep, and the Adds that it measures; without `adds` if there are none."""
    both = to_onnx(module, example)
    adds = find_adds(both, module.network.family.placement)
    if adds:
        measure_adds(both, adds)
    return both, adds


@torch.no_grad()
def verify_deep(
    deep: DeepGraph, module: DeepTransformer, adds: Sequence[NormAdd], sequences: Sequence[Tokens]
) -> float:
    """The largest error of the deep graph against `module` in float64, relative to the largest value of its kind.

    Raises:
        ExportError: it is too large.
    """
    error, network = 0.0, module.network
    network.double()
    try:
        for run in in_runs(range(len(sequences)), [len(sequence) for sequence in sequences], DEEP_TOKENS):
            batch = pack([sequences[place] for place in run], pooling=network.pooling)
            entered, left = expect_deep(module, batch)
            expected = entered, left, expect_adds(entered, left, network.norms, adds)
            pairs = zip(deep.run(batch), expected, strict=True)
            error = max(error, *(relative(found, values) for found, values in pairs if values.size))
    finally:
        network.float()  # what float64 makes of float32 goes back to the same
    if not error <= TOLERANCES["fp32"].statistics:
        raise ExportError(f"The deep graph differs from PyTorch by {error:.2e}: nothing was written.")
    return error


def difference(deep: DeepGraph, sequences: Sequence[Tokens]) -> float:
    """How far the deep graph's statistics are from those of the served graph (runtime/graph/deep.py)."""
    runs = in_runs(range(len(sequences)), [len(sequence) for sequence in sequences], DEEP_TOKENS)
    return max(deep.difference(pack([sequences[place] for place in run])) for run in runs)


def expect_deep(module: DeepTransformer, batch: PackedBatch) -> tuple[Floats, Floats]:
    """What enters and leaves the norms in float64 [N, F] each."""
    wide = [tensor.double() if tensor.is_floating_point() else tensor for tensor in as_tensors(batch)]
    entered, left = (output.flatten(0, 1).numpy()[batch.token_index] for output in module(*wide)[-2:])
    return entered, left
