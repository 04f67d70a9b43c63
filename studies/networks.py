"""The networks of the experiments, on the norms and blocks that are served."""

# B examples of a batch, S steps or pixels, D width, C channels or classes, H x W pixels

from typing import cast

import torch
from torch import Tensor, nn

from model.network.config import EncoderConfig, NormKind, Placement
from model.network.encoder import Encoder
from model.network.norms import BatchNorm, make_norm
from studies.claim import Cell
from studies.tasks import CLASSES

EPS = 1e-5
NAMES: dict[NormKind, str] = {
    "none": "no norm",
    "layer_norm": "LayerNorm",
    "batch_norm": "BatchNorm",
    "rms_norm": "RMSNorm",
}


def norm_of(cell: Cell) -> NormKind:
    return cast(NormKind, cell["norm"])


class RowNorm(nn.Module):
    """A norm of the product on rows [B, D]: each is a sequence of one token.

    A BatchNorm that trains on a single row has no variance to divide by, and gives its bias.
    """

    def __init__(self, kind: NormKind, width: int) -> None:
        super().__init__()
        self.norm = make_norm(kind, width, EPS)

    def forward(self, x_BD: Tensor) -> Tensor:
        if self.training and len(x_BD) == 1 and isinstance(self.norm, BatchNorm):
            return (x_BD - x_BD) + self.norm.bias
        valid_B11 = torch.ones(len(x_BD), 1, 1)
        return self.norm(x_BD.unsqueeze(1), valid_B11)[0].squeeze(1)


class Layer(nn.Module):
    """Linear, norm, ReLU: the order of the notes; with `residual`, what it reads is added to what it gives."""

    def __init__(self, given: int, width: int, norm: NormKind, residual: bool = False) -> None:
        super().__init__()
        self.linear, self.norm, self.residual = nn.Linear(given, width), RowNorm(norm, width), residual

    def forward(self, x_BD: Tensor) -> Tensor:
        y_BD = torch.relu(self.norm(self.linear(x_BD)))
        return x_BD + y_BD if self.residual else y_BD


def mlp(norm: NormKind, depth: int, width: int = 64, gain: float = 1.0, residual: bool = False) -> nn.Sequential:
    """`depth` hidden layers on rows [B, 64], and a linear one to classes.

    Args:
        gain: times He's standard deviation, sqrt(2 / inputs), of the hidden weights (arXiv:1502.01852, eq. 10).
    """
    layers: list[nn.Module] = [Layer(64, width, norm)]
    layers += [Layer(width, width, norm, residual) for _ in range(depth - 1)]
    network = nn.Sequential(*layers, nn.Linear(width, CLASSES))
    for layer in layers:
        assert isinstance(layer, Layer)
        nn.init.kaiming_normal_(layer.linear.weight, nonlinearity="relu")
        nn.init.zeros_(layer.linear.bias)
        with torch.no_grad():
            layer.linear.weight *= gain
    return network


class Convolution(nn.Module):
    """Convolution of 3 x 3, norm, ReLU; a pixel is a token: BatchNorm is per channel, LayerNorm over the channels."""

    def __init__(self, given: int, channels: int, norm: NormKind, stride: int = 1) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(given, channels, 3, stride, padding=1)
        self.norm = make_norm(norm, channels, EPS)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW = self.convolution(x_BCHW)
        tokens_BSC = y_BCHW.flatten(2).transpose(1, 2)
        y_BSC, _ = self.norm(tokens_BSC, torch.ones(*tokens_BSC.shape[:2], 1))
        return torch.relu(y_BSC.transpose(1, 2).reshape(y_BCHW.shape))


def cnn(norm: NormKind, depth: int = 4, channels: int = 16) -> nn.Sequential:
    """`depth` convolutions on pictures [B, 1, 8, 8], the third with stride 2, the mean of the pixels, and classes."""
    layers: list[nn.Module] = [
        Convolution(channels if index else 1, channels, norm, 2 if index == 2 else 1) for index in range(depth)
    ]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES))
    for layer in layers:
        assert isinstance(layer, Convolution)
        nn.init.kaiming_normal_(layer.convolution.weight, nonlinearity="relu")
    return network


class Sequences(nn.Module):
    """The product's encoder on sequences of equal length [B, S, features]: a pack each, and the mean of its steps."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.encoder = Encoder(config)

    def forward(self, x_BSF: Tensor) -> Tensor:
        rows, steps = x_BSF.shape[:2]
        positions_BS = torch.arange(steps).expand(rows, steps)
        pooling = torch.eye(rows).repeat_interleave(steps, 1) / steps
        return self.encoder(x_BSF, positions_BS, torch.ones(rows, steps, dtype=torch.int64), pooling).logits


def encoder(norm: NormKind, placement: Placement, layers: int, residual: bool = True, d_model: int = 64) -> Sequences:
    """A Transformer encoder on sequences [B, 8, 8] without dropout, so that arms differ in their norms alone."""
    config = EncoderConfig(
        d_model=d_model,
        num_heads=4,
        num_layers=layers,
        d_ff=2 * d_model,
        norm=norm,
        placement=placement,
        residual=residual,
        dropout=0.0,
        num_classes=CLASSES,
        max_tokens=64,
        num_features=8,
    )
    return Sequences(config)
