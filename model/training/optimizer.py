"""AdamW over groups of weights that learn at rates of their own, and the moving average that is kept."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from model.training.recipe import FineTuning, Schedule

Tensors = tuple[Tensor, ...] | list[Tensor]
AverageFunction = Callable[[Tensors, Tensors, Tensor | int], None]
LAYER = re.compile(r"\.(?:layers?|albert_layers|h|block)\.(\d+)\.")  # as the families of transformers call them
# Below the first layer; what all layers use is there too: MPNet's table of distances, the norm of DeBERTa's.
BELOW = re.compile(r"embedding|\.encoder\.(?:relative_attention_bias|LayerNorm)\.")
EMBEDDINGS = -1


def make_optimizer(model: nn.Module, schedule: Schedule) -> torch.optim.AdamW:
    """AdamW; norms and biases do not decay.

    The entry `scale` of a group is what the learning rate of each step is multiplied with.
    """
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for parameter, scale in scaled(model, schedule):
        decay = schedule.weight_decay if parameter.dim() > 1 else 0.0
        groups.setdefault((scale, decay), []).append(parameter)
    described: list[dict[str, Any]] = [
        {"params": parameters, "weight_decay": decay, "scale": scale} for (scale, decay), parameters in groups.items()
    ]
    return torch.optim.AdamW(described, lr=schedule.learning_rate, betas=(0.9, 0.98), fused=True)


def scaled(model: nn.Module, schedule: Schedule) -> Iterator[tuple[Tensor, float]]:
    """The weights that learn, each with what its learning rate is multiplied with."""
    if not isinstance(schedule, FineTuning):
        yield from ((parameter, 1.0) for parameter in model.parameters())
        return
    depths = {name: depth_of(name) for name, _ in model.named_parameters()}
    last = max((depth for depth in depths.values() if depth is not None), default=0)
    for name, parameter in model.named_parameters():
        depth = depths[name]
        if depth is None:
            yield parameter, schedule.head_rate
        elif depth >= schedule.frozen_layers or not schedule.frozen_layers:
            yield parameter, schedule.layer_decay ** (last - depth)
        else:
            parameter.requires_grad_(False)


def depth_of(name: str) -> int | None:
    """The layer that a weight is of, from 0 on; EMBEDDINGS; None for what is behind the layers."""
    if found := LAYER.search(name):
        return int(found[1])
    return EMBEDDINGS if BELOW.search(name) else None


def averaging(decay: float) -> AverageFunction:
    """Exponential moving average; its decay grows from 0.1 to `decay`, so that the first weights are soon forgotten."""

    @torch.no_grad()
    def update(averages: Tensors, weights: Tensors, updates: Tensor | int) -> None:
        if not averages[0].is_floating_point():  # buffers such as position ids
            torch._foreach_copy_(averages, weights)
            return
        count = float(updates)
        torch._foreach_lerp_(averages, weights, 1 - min(decay, (1 + count) / (10 + count)))

    return update
