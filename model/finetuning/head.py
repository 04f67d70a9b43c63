"""A linear head on a frozen encoder: multinomial logistic regression on the vectors of the texts.

It is where fine-tuning begins, so that the encoder's features are not spoilt by a random head (Kumar et al. 2022,
arXiv:2202.10054), what it must not fall below, and what tells how the vectors of tokens become one.
"""

# R texts, D d_model, C classes, K poolings

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F

from model.data import Dataset
from model.data.dataset import Split
from model.finetuning.checkpoint import FineTunedEncoder
from model.training.batches import to_batch
from model.training.device import device_of, to_device
from runtime.graph.inputs import InputEncoder
from runtime.manifest import PoolingKind

MEASURED: tuple[PoolingKind, ...] = ("mean", "cls")  # poolings that are tried where nobody says which
BATCH = 64
DECAYS = (1e-4, 1e-3, 1e-2)  # of the weights, the best by validation; features have a variance of one on average
ITERATIONS = 100


class Vectors(NamedTuple):
    """The pooled vectors [R, D] of the texts of a data set, in their order."""

    train: Tensor
    validation: Tensor


def embed_all(
    model: FineTunedEncoder, dataset: Dataset, encoder: InputEncoder, poolings: Sequence[PoolingKind]
) -> dict[PoolingKind, Vectors]:
    """The vectors by pooling; shows how far it is."""
    train = embed(model, dataset.train, encoder, poolings, "embedding the training texts")
    validation = embed(model, dataset.validation, encoder, poolings, "embedding the validation texts")
    return {kind: Vectors(*found) for kind, *found in zip(poolings, train, validation, strict=True)}


@torch.inference_mode()
def embed(
    model: FineTunedEncoder, split: Split, encoder: InputEncoder, poolings: Sequence[PoolingKind], description: str
) -> list[Tensor]:
    """The vectors [R, D] of each of these poolings, on the device of the model; several can only be sums of token
    vectors with weights."""
    device = device_of(model)
    sequences = [item.tokens for item in encoder.encode(split.inputs)]
    order = np.argsort([len(sequence) for sequence in sequences], kind="stable").tolist()
    found = torch.empty(len(poolings), len(order), model.network.d_model, device=device)
    for start in track(range(0, len(order), BATCH), description=description, transient=True):
        rows = order[start : start + BATCH]
        drawn = [sequences[row] for row in rows]
        batches = [to_device(to_batch(drawn, torch.empty(0), kind), device) for kind in poolings]
        *inputs, _ = batches[0].inputs
        weights = torch.cat([batch.inputs[-1] for batch in batches])  # [K * R, P * S]
        found[:, rows] = model.eval()(*inputs, weights).embedding.unflatten(0, (len(poolings), -1))
    return list(found)


class Fitted(NamedTuple):
    """A head, its accuracy on the validation texts, and the least loss there of any decay."""

    head: nn.Linear
    loss: float
    accuracy: float


def fit_head(vectors: Vectors, dataset: Dataset) -> Fitted:
    """The head that fits the training labels, the best by validation."""
    device = vectors.train.device
    targets, wanted = (torch.from_numpy(split.labels).to(device) for split in (dataset.train, dataset.validation))
    found: list[Fitted] = []
    for decay in DECAYS:
        head = logistic_regression(vectors.train, targets, len(dataset.labels), decay)
        with torch.inference_mode():
            logits = head(vectors.validation)
        accuracy = float((logits.argmax(1) == wanted).float().mean())
        found.append(Fitted(head, float(F.cross_entropy(logits, wanted)), accuracy))
    least = min((each.loss for each in found if math.isfinite(each.loss)), default=math.inf)
    return max(found, key=lambda each: (each.accuracy, -each.loss))._replace(loss=least)


def logistic_regression(vectors_RD: Tensor, targets_R: Tensor, classes: int, decay: float) -> nn.Linear:
    """Minimizes mean cross-entropy + decay / 2 * |W|^2 over centred vectors of unit variance, by L-BFGS."""
    center = vectors_RD.mean(0)
    scale = (vectors_RD - center).square().mean().sqrt()
    x_RD = (vectors_RD - center) / scale
    head = nn.Linear(vectors_RD.shape[1], classes, device=vectors_RD.device)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(head(x_RD), targets_R) + 0.5 * decay * head.weight.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    with torch.no_grad():  # of the vectors as they are
        head.weight.div_(scale)
        head.bias.sub_(head.weight @ center)
    return head
