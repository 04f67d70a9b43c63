"""Watches the norms of somebody else's network while they run.

A LayerNorm computes mean and 1/sigma of each token anyway, and the exported graph hands both out; an RMSNorm does
not, so both are computed from its input. docs/statistics.md says what they mean.
"""

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from model.network.norms import NormStatistics, token_statistics
from runtime.manifest import LayerKind


class Record:
    """What norms saw in one forward pass, in order. No bare list: torch.export would take it for state."""

    def __init__(self) -> None:
        self.statistics: list[NormStatistics] = []

    def take(self) -> list[NormStatistics]:
        """What was written down, which the record then forgets: a network with tensors in it cannot be copied."""
        taken, self.statistics = self.statistics, []
        return taken


class WatchedLayerNorm(nn.LayerNorm):
    """A LayerNorm that writes down what it computes on the way. A module becomes one when its class is set."""

    record: Record

    def forward(self, x: Tensor) -> Tensor:
        shape: Any = self.normalized_shape
        y, mean, inv_std = torch.native_layer_norm(x, shape, self.weight, self.bias, self.eps)
        self.record.statistics.append(NormStatistics(mean, inv_std))
        return y


class WatchRMSNorm:
    """A hook. A class, because a copy of the network must not write into the record of the first."""

    def __init__(self, record: Record) -> None:
        self.record = record

    def __call__(self, norm: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self.record.statistics.append(token_statistics(inputs[0], norm_eps(norm)))


def watch(network: nn.Module, names: Collection[str], record: Record) -> None:
    """Makes these norms of `network` write into `record`."""
    for name, module in network.named_modules():
        if name in names and isinstance(module, nn.LayerNorm):
            module.__class__ = WatchedLayerNorm
            vars(module)["record"] = record
        elif name in names:
            module.register_forward_hook(WatchRMSNorm(record))


class NormRun(NamedTuple):
    """One run of a norm: its name, itself, and the shape of its input."""

    name: str
    norm: nn.Module
    shape: torch.Size


def norm_runs(network: nn.Module, forward: Callable[[], object]) -> list[NormRun]:
    """The norms of `network` in the order in which they run in one forward pass."""
    names = {module: name for name, module in network.named_modules() if is_norm(module)}
    runs: list[NormRun] = []

    def note(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        runs.append(NormRun(names[norm], norm, inputs[0].shape))

    handles = [norm.register_forward_pre_hook(note) for norm in names]
    forward()
    for handle in handles:
        handle.remove()
    return runs


def is_norm(module: nn.Module) -> bool:
    """T5LayerNorm is an RMSNorm, in spite of its name: it has the attribute."""
    named = type(module).__name__.endswith("RMSNorm") or hasattr(module, "variance_epsilon")
    return named or isinstance(module, nn.LayerNorm)


def norm_kind(norm: nn.Module) -> LayerKind:
    return "layer_norm" if isinstance(norm, nn.LayerNorm) else "rms_norm"


def norm_eps(norm: nn.Module) -> float:
    eps: Any = norm.eps if hasattr(norm, "eps") else norm.variance_epsilon
    return float(eps)
