"""The same norm statistics by PyTorch forward hooks: what one writes who cannot change the graph.

One difference: tokens whose statistics are NaN or infinite are not left out. Variances are taken in two passes: on the
CPU, torch.var_mean takes many times as long.
"""

# P packs, S tokens per pack, D d_model, N valid tokens, K columns, B buckets

from functools import partial

import torch
from torch import Tensor, nn

from model.network.encoder import Encoder
from model.network.layers import AddNorm
from model.network.norms import Norm
from runtime.statistics.histogram import BUCKETS, HALF, LOWEST, SHIFT, ZERO


class RunningMoments:
    """Count, mean, sum of squared deviations, minimum and maximum of K columns, in float64."""

    def __init__(self, columns: int) -> None:
        self.count = 0
        self.mean, self.m2 = torch.zeros(2, columns, dtype=torch.float64)
        self.minimum = torch.full((columns,), torch.inf, dtype=torch.float64)
        self.maximum = -self.minimum

    def add(self, values_NK: Tensor) -> None:
        """Merges the moments of the new values into the running ones (Chan et al. 1979)."""
        values_NK = values_NK.double()
        count, total = len(values_NK), self.count + len(values_NK)
        mean = values_NK.mean(0)
        delta = mean - self.mean
        self.m2 += (values_NK - mean).square_().sum(0) + delta.square() * (self.count * count / total)
        self.mean += delta * (count / total)
        torch.minimum(self.minimum, values_NK.amin(0), out=self.minimum)
        torch.maximum(self.maximum, values_NK.amax(0), out=self.maximum)
        self.count = total


class TokenStatistics:
    """Moments and log-bucket histograms [K, B] of K numbers of every token.

    Args:
        fold_tokens: tokens to hold before they are added; 0 adds every batch as it comes.
    """

    def __init__(self, columns: int, fold_tokens: int) -> None:
        self.fold_tokens = fold_tokens
        self.moments = RunningMoments(columns)
        self.histograms = torch.zeros(columns, BUCKETS, dtype=torch.int64)
        self._held: list[Tensor] = []
        self._held_tokens = 0

    def add(self, values_NK: Tensor) -> None:
        self._held.append(values_NK)
        self._held_tokens += len(values_NK)
        if self._held_tokens >= self.fold_tokens:
            self.fold()

    def fold(self) -> None:
        if not self._held:
            return
        values_NK = torch.cat(self._held) if len(self._held) > 1 else self._held[0]
        self.moments.add(values_NK)
        index_KN = bucket_of(values_NK.T)
        self.histograms.scatter_add_(1, index_KN, torch.ones_like(index_KN))
        self._held, self._held_tokens = [], 0


def bucket_of(values: Tensor) -> Tensor:
    """runtime/statistics/histogram.py's bucket of every float32 value."""
    bits = values.contiguous().view(torch.int32)
    index = ((bits & 0x7FFFFFFF) >> SHIFT).sub_(LOWEST - 1).clamp_(0, HALF)
    return torch.where(bits < 0, -index, index).add_(ZERO).long()


class NormHooks:
    """Watches every norm of an encoder.

    Args:
        deep: also watches every feature that a norm gives, and what every sublayer adds to its residual.

    Attributes:
        norms: mean and variance of every token that enters a norm, in network order.
        outputs: deep only: of every feature of a norm's output.
        updates: deep only: per Add & Norm, |update| / |residual| and the cosine between both.
    """

    def __init__(self, encoder: Encoder, fold_tokens: int = 0, deep: bool = False) -> None:
        modules = [norm for _, norm in encoder.norms()]
        self.norms = [TokenStatistics(2, fold_tokens) for _ in modules]
        for norm, seen in zip(modules, self.norms, strict=True):
            norm.register_forward_pre_hook(partial(see_input, seen))
        self.outputs: list[RunningMoments] = []
        self.updates: list[TokenStatistics] = []
        if deep:
            self._watch_deep(encoder, modules, fold_tokens)

    def _watch_deep(self, encoder: Encoder, norms: list[Norm], fold_tokens: int) -> None:
        self.outputs = [RunningMoments(encoder.config.d_model) for _ in norms]
        for norm, moments in zip(norms, self.outputs, strict=True):
            norm.register_forward_hook(partial(see_output, moments))
        for module in encoder.modules():
            if isinstance(module, AddNorm):
                watch = UpdateHooks(fold_tokens)
                module.sublayer.register_forward_hook(watch.keep_update)
                module.register_forward_hook(watch.see_residual)
                self.updates.append(watch.seen)

    def fold(self) -> None:
        """Adds what is still held."""
        for seen in (*self.norms, *self.updates):
            seen.fold()


def see_input(seen: TokenStatistics, _module: nn.Module, arguments: tuple[Tensor, Tensor]) -> None:
    x_PSD, valid_PS1 = arguments
    mean_PS1 = x_PSD.mean(-1, keepdim=True)
    variance_PS1 = (x_PSD - mean_PS1).square_().mean(-1, keepdim=True)
    seen.add(torch.cat([mean_PS1, variance_PS1], -1)[valid_PS1[..., 0] > 0])


def see_output(
    moments: RunningMoments, _module: nn.Module, arguments: tuple[Tensor, Tensor], output: tuple[Tensor, object]
) -> None:
    moments.add(output[0][arguments[1][..., 0] > 0])


class UpdateHooks:
    """Compares what a sublayer adds with the residual that it is added to."""

    def __init__(self, fold_tokens: int) -> None:
        self.seen = TokenStatistics(2, fold_tokens)

    def keep_update(self, module: nn.Module, arguments: tuple[Tensor, ...], update_PSD: Tensor) -> None:
        self.update_PSD = update_PSD

    def see_residual(self, module: nn.Module, arguments: tuple[Tensor, ...], output: object) -> None:
        x_PSD, valid_PS1 = arguments[:2]
        residual, update = x_PSD.norm(dim=-1), self.update_PSD.norm(dim=-1)
        cosine = (x_PSD * self.update_PSD).sum(-1) / (residual * update)
        self.seen.add(torch.stack([update / residual, cosine], -1)[valid_PS1[..., 0] > 0])
