"""Temperature scaling: makes the scores of an encoder mean what they say (Guo et al. 2017, arXiv:1706.04599).

An encoder that learned softened answers is right far more often than its probabilities claim. Dividing its logits by
one temperature, fitted on the validation split, mends that and changes no answer.
"""

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from torch import Tensor, nn

from model.data import Split
from model.network.encoder import EncoderOutput
from model.training.batches import evaluation_batches
from runtime.graph.inputs import InputEncoder
from runtime.manifest import PoolingKind

RANGE = (0.02, 50.0)


class Classifier(Protocol):
    """An encoder whose head is linear."""

    @property
    def head(self) -> nn.Module: ...

    def __call__(self, *inputs: Tensor) -> EncoderOutput: ...


def calibrate(model: Classifier, validation: Split, inputs: InputEncoder, pooling: PoolingKind = "mean") -> float:
    """Divides the head's weights by the temperature that fits `validation` best, and returns that temperature."""
    temperature = fit_temperature(*validation_logits(model, validation, inputs, pooling))
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter.div_(temperature)
    return temperature


def fit_temperature(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """The temperature that minimizes the mean of -log softmax(logits / temperature) at `labels`."""

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        top = scaled.max(1)
        log_sum = top + np.log(np.exp(scaled - top[:, None]).sum(1))
        return float((log_sum - scaled[np.arange(len(labels)), labels]).mean())

    no_error = (logits.argmax(1) == labels).all()  # then nothing says how sure is too sure: do not sharpen
    lowest = 1.0 if no_error else RANGE[0]
    found = minimize_scalar(loss, bounds=np.log([lowest, RANGE[1]]), method="bounded")
    return float(np.exp(found.x))


@torch.inference_mode()
def validation_logits(
    model: Classifier, validation: Split, inputs: InputEncoder, pooling: PoolingKind
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    batches = [
        (model(*batch.inputs).logits, batch.targets) for batch in evaluation_batches(validation, inputs, pooling)
    ]
    logits, labels = (torch.cat(part).numpy() for part in zip(*batches, strict=True))
    return logits.astype(np.float64), labels
