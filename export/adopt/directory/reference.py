"""What an adopted network gives in float64, by transformers' own call: what no packing can have spoilt."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from export.adopt.parity import Expected
from export.graph import as_tensors
from model.pretrained.packed import PackedTransformer
from runtime.graph.packing import Tokens, pack


class NetworkReference:
    """The network in float64, one text at a time; the first of its answers is that of transformers alone."""

    name = "PyTorch's"

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
