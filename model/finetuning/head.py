"""A linear head on a frozen encoder: multinomial logistic regression on the vectors of the texts.

It is where fine-tuning begins, so that the encoder's features are not spoilt by a random head (Kumar et al. 2022,
arXiv:2202.10054), and what it must not fall below.
"""

# R texts, D d_model, C classes

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F

from model.data.dataset import Split
from model.finetuning.checkpoint import FineTunedEncoder
from model.training.batches import to_batch
from runtime.graph.inputs import InputEncoder

BATCH = 64
DECAYS = (1e-4, 1e-3, 1e-2)  # of the weights, the best by validation; features have a variance of one on average
ITERATIONS = 100


@torch.inference_mode()
def embed(model: FineTunedEncoder, split: Split, encoder: InputEncoder, description: str) -> Tensor:
    """The pooled vector of every text [R, D], in their order; shows how far it is."""
    sequences = [item.tokens for item in encoder.encode(split.inputs)]
    order = np.argsort([len(sequence) for sequence in sequences], kind="stable").tolist()
    found = torch.empty(len(order), model.network.d_model)
    for start in track(range(0, len(order), BATCH), description=description, transient=True):
        rows = order[start : start + BATCH]
        batch = to_batch([sequences[row] for row in rows], torch.empty(0), model.network.pooling)
        found[rows] = model.eval()(*batch.inputs).embedding
    return found


def fit_head(
    train: Tensor, labels: NDArray[np.int64], validation: Tensor, expected: NDArray[np.int64], head: nn.Linear
) -> None:
    """Gives `head` the weights that fit `labels` [R] of the vectors `train` [R, D], the best by `validation`."""
    targets, wanted = torch.from_numpy(labels), torch.from_numpy(expected)
    scores: list[tuple[float, float, nn.Linear]] = []
    for decay in DECAYS:
        found = logistic_regression(train, targets, head.out_features, decay)
        with torch.inference_mode():
            logits = found(validation)
        accuracy, loss = float((logits.argmax(1) == wanted).float().mean()), float(F.cross_entropy(logits, wanted))
        scores.append((accuracy, -loss, found))
    best = max(scores, key=lambda score: score[:2])[2]
    head.load_state_dict(best.state_dict())


def logistic_regression(vectors_RD: Tensor, targets_R: Tensor, classes: int, decay: float) -> nn.Linear:
    """Minimizes mean cross-entropy + decay / 2 * |W|^2 over centred vectors of unit variance, by L-BFGS."""
    center = vectors_RD.mean(0)
    scale = (vectors_RD - center).square().mean().sqrt()
    x_RD = (vectors_RD - center) / scale
    head = nn.Linear(vectors_RD.shape[1], classes)
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
