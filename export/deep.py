"""The deep graph: the same network, handing out what enters and leaves every norm, and what every Add adds to.

It is run on a sample of the traffic beside the served graph (runtime/graph/deep.py), and shares its weights: they are
external data that lie inside the served graph's own file (export/weights.py).
"""

# P packs, S tokens per pack, L norm layers, D d_model, A Adds

import onnx
import torch
from torch import Tensor, nn

from export.graph import ServedEncoder, only
from export.weights import share_weights
from model.network.encoder import Encoder
from model.network.layers import Add
from runtime.graph.packing import PACKED

OUTPUTS = ("norm_inputs", "norm_outputs", "adds")


class DeepEncoder(ServedEncoder):
    """An encoder with all outputs that are served, and those of the deep graph.

    These are `norm_inputs` and `norm_outputs` [P, S, L, D], and `adds` [P, S, A, 2]. An Add's two numbers, of an update
    F(x) to x: |F(x)| / |x|, and the cosine between both.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(encoder)
        self.outputs |= dict.fromkeys(OUTPUTS, PACKED)

    def forward(self, values: Tensor, position_ids: Tensor, segment_ids: Tensor, pooling: Tensor) -> tuple[Tensor, ...]:
        entered: list[Tensor] = []
        left: list[Tensor] = []
        added: list[Tensor] = []

        def watch_norm(_: nn.Module, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
            entered.append(inputs[0])
            left.append(output[0])

        def watch_add(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            added.append(update_measures(*inputs))

        hooks = [norm.register_forward_hook(watch_norm) for _, norm in self.encoder.norms()]
        hooks += [m.register_forward_pre_hook(watch_add) for m in self.encoder.modules() if isinstance(m, Add)]
        try:
            served = super().forward(values, position_ids, segment_ids, pooling)
        finally:
            for hook in hooks:
                hook.remove()
        return *served, torch.stack(entered, 2), torch.stack(left, 2), torch.stack(added, 2)


def update_measures(x_PSD: Tensor, update_PSD: Tensor) -> Tensor:
    """|F(x)| / |x| and cos(x, F(x)) of every token [P, S, 2]."""
    x_PS, update_PS = (torch.linalg.vector_norm(part, dim=-1) for part in (x_PSD, update_PSD))
    cosine_PS = (x_PSD * update_PSD).sum(-1) / (x_PS * update_PS)
    return torch.stack([update_PS / x_PS, cosine_PS], dim=-1)


def deep_graph(both: onnx.ModelProto, served: bytes) -> bytes:
    """The deep graph of `both`, its larger weights replaced by where they lie in `served`, the served graph's file."""
    return share_weights(only(OUTPUTS, both), served)
