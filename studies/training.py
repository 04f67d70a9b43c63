"""How the experiments train: the same order of examples and the same initialization for arms that are paired."""

# N examples, B examples of a batch

import math
from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from studies.tasks import CHANCE, Split

Optimizer = Literal["sgd", "adam"]
WORST = 2 * CHANCE  # a loss beyond this is told as this: twice that of a guess, however far it went
EachStep = Callable[[int, nn.Module], None]


def batches(split: Split, size: int, steps: int, seed: int) -> Iterator[Split]:
    """So many batches of `size` examples, epoch after epoch, each in a new order; none is smaller."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        if len(order) < size:
            order = torch.cat([order, torch.randperm(len(split.targets), generator=generator)])
        chosen, order = order[:size], order[size:]
        yield Split(split.inputs[chosen], split.targets[chosen])


def make_optimizer(kind: Optimizer, network: nn.Module, rate: float) -> torch.optim.Optimizer:
    if kind == "sgd":
        return torch.optim.SGD(network.parameters(), rate)
    return torch.optim.Adam(network.parameters(), rate)


def train(
    network: nn.Module,
    split: Split,
    *,
    rate: float,
    batch: int,
    steps: int,
    seed: int,
    optimizer: Optimizer = "sgd",
    warmup: int = 0,
    each_step: EachStep | None = None,
) -> list[float]:
    """Trains with a constant rate, after a linear warm-up; gives the training loss of every step.

    It ends early where the loss is not finite.

    Args:
        each_step: called after the gradients of a step are there, before they are used.
    """
    network.train()
    chosen, losses = make_optimizer(optimizer, network, rate), list[float]()
    for step, (inputs, targets) in enumerate(batches(split, batch, steps, seed)):
        for group in chosen.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / (warmup + 1))
        loss = F.cross_entropy(network(inputs), targets)
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            break
        chosen.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if each_step is not None:
            each_step(step, network)
        chosen.step()
    return losses


@torch.inference_mode()
def evaluate(network: nn.Module, split: Split) -> tuple[float, float]:
    """Mean cross-entropy (nats, at most WORST) and accuracy (0 to 1), in inference mode."""
    network.eval()
    logits = network(split.inputs)
    loss = F.cross_entropy(logits, split.targets).item()
    return capped(loss), float((logits.argmax(1) == split.targets).float().mean())


def capped(loss: float) -> float:
    return min(loss, WORST) if math.isfinite(loss) else WORST


def measured(network: nn.Module, losses: list[float], test: Split) -> dict[str, float]:
    """What most experiments report: test loss, accuracy, training loss, and whether the run diverged."""
    loss, accuracy = evaluate(network, test)
    diverged = not math.isfinite(losses[-1]) or losses[-1] > WORST
    return {
        "loss": WORST if diverged else loss,
        "accuracy": accuracy,
        "training_loss": capped(sum(losses[-20:]) / len(losses[-20:])),
        "diverged": float(diverged),
    }


def gradient(network: nn.Module, split: Split) -> Tensor:
    """The loss's gradient with respect to all parameters, flat."""
    loss = F.cross_entropy(network(split.inputs), split.targets)
    return torch.cat([each.flatten() for each in torch.autograd.grad(loss, list(network.parameters()))])
