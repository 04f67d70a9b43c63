"""The normalization layers, each of which also says what it saw.

Every norm returns its output together with the mean and 1/sigma of each token that came in: a LayerNorm computes
both anyway, and the exported graph hands them out (docs/statistics.md). Formulas: LayerNorm, Ba et al. 2016,
arXiv:1607.06450, eq. 3; RMSNorm, Zhang & Sennrich 2019, arXiv:1910.07467, eq. 4; BatchNorm, Ioffe & Szegedy 2015,
arXiv:1502.03167, algorithm 1.
"""

# P packs, S tokens per pack, D d_model

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.network.config import NormKind


class NormStatistics(NamedTuple):
    """What flowed into one norm.

    Attributes:
        mean: mean of every token over its features [P, S, 1].
        inv_std: 1 / sqrt(variance + eps) of every token, population variance [P, S, 1].
        feature_moments: BatchNorm only: mean and population variance of every feature over the valid tokens [2, D].
    """

    mean: Tensor
    inv_std: Tensor
    feature_moments: Tensor | None = None


class LayerNorm(nn.Module):
    """y = (x - mean) / sqrt(var + eps) * weight + bias, over the features of each token."""

    def __init__(self, d_model: int, eps: float) -> None:
        super().__init__()
        self.d_model, self.eps = d_model, eps
        self.weight = nn.Parameter(torch.ones(d_model))
        self.bias = nn.Parameter(torch.zeros(d_model))

    def forward(self, x_PSD: Tensor, valid_PS1: Tensor) -> tuple[Tensor, NormStatistics]:
        x_PSD = widened(x_PSD)
        y_PSD, mean, inv_std = torch.native_layer_norm(x_PSD, (self.d_model,), self.weight, self.bias, self.eps)
        return y_PSD, NormStatistics(mean, inv_std)


class RMSNorm(nn.Module):
    """y = x / sqrt(mean(x^2) + eps) * weight, over the features of each token."""

    def __init__(self, d_model: int, eps: float) -> None:
        super().__init__()
        self.d_model, self.eps = d_model, eps
        self.weight = nn.Parameter(torch.ones(d_model))

    def forward(self, x_PSD: Tensor, valid_PS1: Tensor) -> tuple[Tensor, NormStatistics]:
        x_PSD = widened(x_PSD)
        y_PSD = F.rms_norm(x_PSD, (self.d_model,), self.weight, self.eps)
        return y_PSD, token_statistics(x_PSD, self.eps)


class BatchNorm(nn.Module):
    """y = (x - E[x]) / sqrt(Var[x] + eps) * weight + bias, per feature over the valid tokens of the batch.

    Padding never enters, in training either. As in `torch.nn.BatchNorm1d`, training normalizes with the population
    variance and the running variance averages the unbiased one; inference uses the running moments.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, d_model: int, eps: float, momentum: float = 0.1) -> None:
        super().__init__()
        self.d_model, self.eps, self.momentum = d_model, eps, momentum
        self.weight = nn.Parameter(torch.ones(d_model))
        self.bias = nn.Parameter(torch.zeros(d_model))
        self.register_buffer("running_mean", torch.zeros(d_model))
        self.register_buffer("running_var", torch.ones(d_model))

    def forward(self, x_PSD: Tensor, valid_PS1: Tensor) -> tuple[Tensor, NormStatistics]:
        x_PSD = widened(x_PSD)
        mean_D, var_D, count = self.valid_moments(x_PSD, valid_PS1)
        live = torch.stack([mean_D, var_D])
        if self.training:
            self.update_running(mean_D.detach(), var_D.detach(), count)
        else:
            mean_D, var_D = self.running_mean, self.running_var
        y_PSD = (x_PSD - mean_D) * torch.rsqrt(var_D + self.eps) * self.weight + self.bias
        return y_PSD, token_statistics(x_PSD, self.eps)._replace(feature_moments=live)

    def valid_moments(self, x_PSD: Tensor, valid_PS1: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and population variance [D] of the valid tokens, and their number."""
        count = valid_PS1.sum()
        mean_D = (x_PSD * valid_PS1).sum((0, 1)) / count
        var_D = ((x_PSD - mean_D).square() * valid_PS1).sum((0, 1)) / count
        return mean_D, var_D, count

    @torch.no_grad()
    def update_running(self, mean_D: Tensor, var_D: Tensor, count: Tensor) -> None:
        if count < 2:
            raise ValueError("batch_norm needs at least two valid tokens in a training batch, got 1")
        self.running_mean.lerp_(mean_D, self.momentum)
        self.running_var.lerp_(var_D * count / (count - 1), self.momentum)


class NoNorm(nn.Module):
    """y = x: the place of a norm, observed but not normalized."""

    def __init__(self, d_model: int, eps: float) -> None:
        super().__init__()
        self.d_model, self.eps = d_model, eps

    def forward(self, x_PSD: Tensor, valid_PS1: Tensor) -> tuple[Tensor, NormStatistics]:
        return x_PSD, token_statistics(x_PSD, self.eps)


Norm = LayerNorm | RMSNorm | BatchNorm | NoNorm
_NORMS: dict[NormKind, type[Norm]] = {
    "layer_norm": LayerNorm,
    "rms_norm": RMSNorm,
    "batch_norm": BatchNorm,
    "none": NoNorm,
}


def make_norm(kind: NormKind, d_model: int, eps: float) -> Norm:
    return _NORMS[kind](d_model, eps)


def norm_kind(norm: nn.Module) -> NormKind:
    """The configuration's word for a norm module."""
    return next(kind for kind, cls in _NORMS.items() if type(norm) is cls)


def token_statistics(x_PSD: Tensor, eps: float) -> NormStatistics:
    """Mean and 1/sigma of every token, for norms that do not compute both themselves."""
    x_PSD = widened(x_PSD)
    mean = x_PSD.mean(-1, keepdim=True)
    variance = (x_PSD - mean).square().mean(-1, keepdim=True)
    return NormStatistics(mean, torch.rsqrt(variance + eps))


def widened(x_PSD: Tensor) -> Tensor:
    """What enters a norm, in float32 at least: autocast hands on bfloat16, in which a mean has three digits."""
    return x_PSD.float() if x_PSD.dtype in (torch.bfloat16, torch.float16) else x_PSD
