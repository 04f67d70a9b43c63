"""The training loop: a pure function of recipe and data that can stop at any step and go on to the same losses."""

import math
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel

from model.data.dataset import Split
from model.training.batches import Batch, Examples, count_batches, evaluation_batches, training_batches
from model.training.checkpoint import MODEL, STATE, load_tensors, save_tensors
from model.training.device import CPU, autocast, device_of, has_bfloat16, to_device
from model.training.norm_record import NormRecord
from model.training.optimizer import averaging, make_optimizer
from model.training.recipe import Schedule
from model.training.report import Report, Sums
from runtime.errors import DataError
from runtime.graph.inputs import InputEncoder
from runtime.manifest import PoolingKind


class Interrupted(Exception):
    """SIGINT or SIGTERM arrived; the state is saved."""


class Trainer:
    """Trains one encoder into one run directory.

    Args:
        model: gives an `EncoderOutput`, or whatever has `logits` [R, C], of the inputs of a batch.
        directory: where the state and the best weights are kept; a state found there is resumed.
        examples: draws what an epoch over `size` training examples sees.
        pooling: how the vectors of a sequence's tokens become one.
        device: where it trains; the model is moved there.
        bfloat16: whether matrix products are in bfloat16 in training; None: on a GPU that has it.

    Attributes:
        record: what is recorded of every norm on the way; None records nothing.
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: Schedule,
        examples: Examples,
        size: int,
        validation: Split,
        encoder: InputEncoder,
        directory: Path,
        pooling: PoolingKind = "mean",
        device: torch.device = CPU,
        bfloat16: bool | None = None,
    ) -> None:
        self.model, self.examples, self.size, self.pooling = model.to(device), examples, size, pooling
        self.validation, self.encoder, self.directory = validation, encoder, directory
        self.epoch_steps = count_batches(size, recipe.batch_size)
        self.recipe = recipe = recipe.with_enough_epochs(self.epoch_steps)
        self.total_steps = recipe.epochs * self.epoch_steps
        self.optimizer = make_optimizer(model, recipe)
        self.average = AveragedModel(model, multi_avg_fn=averaging(recipe.average_decay), use_buffers=True)
        self.step, self.best = 0, (-1.0, -math.inf)
        self.state_path = directory / STATE
        self.record: NormRecord | None = None
        self.device = device
        self.bfloat16 = has_bfloat16(device) if bfloat16 is None else bfloat16

    def run(self, report: Report) -> None:
        """Trains to the end, from where the state in the directory stands.

        Raises:
            Interrupted: SIGINT or SIGTERM arrived; run again to go on.
            DataError: the loss is no number any more, or the state is of another run.
        """
        sums = self.restore() if self.state_path.exists() else Sums()
        report.begin(self.step, self.total_steps, sums)
        if self.record is not None:
            self.record.resume(self.step)
        with stop_on_signals() as stop_asked:
            for epoch in range(self.step // self.epoch_steps, self.recipe.epochs):
                self.train_epoch(epoch, report, stop_asked)
                loss, accuracy = evaluate(self.average.module, self.validation, self.encoder, self.pooling)
                self.keep_best(epoch, loss, accuracy)
                report.end_epoch(epoch, self.step, loss, accuracy, self.learning_rate())
                self.save(Sums())
                if stop_asked() and epoch + 1 < self.recipe.epochs:
                    raise Interrupted

    def train_epoch(self, epoch: int, report: Report, stop_asked: Callable[[], bool]) -> None:
        self.model.train()
        recipe, done = self.recipe, self.step - epoch * self.epoch_steps
        batches = training_batches(self.examples, self.size, recipe.batch_size, recipe.seed, epoch, self.pooling)
        for batch in islice(batches, done, None):
            loss, correct = self.train_step(to_device(batch, self.device))
            report.step(loss, correct, len(batch.targets), batch.tokens)
            if stop_asked() and self.step % self.epoch_steps:  # after an epoch's last step, it is ended first
                self.save(report.sums)
                raise Interrupted

    def train_step(self, batch: Batch) -> tuple[float, int]:
        """One step of AdamW; returns the loss and how many answers were right."""
        torch.manual_seed(self.recipe.seed * 1_000_003 + self.step)  # CUDA too: dropout is the same after a resume
        for group in self.optimizer.param_groups:
            group["lr"] = group["scale"] * self.learning_rate()
        with autocast(self.device, self.bfloat16):
            output = self.model(*batch.inputs)
        logits: Tensor = output.logits.float()
        loss = F.cross_entropy(logits, batch.targets)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm)
        told = loss.item()
        self.check("loss", told, f"at step {self.step}")
        with self.record.recording(self.step, output, batch) if self.record is not None else nullcontext():
            self.optimizer.step()
        self.average.update_parameters(self.model)
        self.step += 1
        return told, int((logits.argmax(1) == batch.targets.argmax(1)).sum())

    def learning_rate(self) -> float:
        """Linear warm-up, then a cosine to zero (Loshchilov & Hutter 2017, arXiv:1608.03983)."""
        done, warmup = self.step / self.total_steps, self.recipe.warmup
        if done < warmup:
            return self.recipe.learning_rate * (done / warmup)
        return self.recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))

    def check(self, what: str, loss: float, when: str) -> None:
        """Refuses a loss that is NaN or infinite: such weights learn nothing any more, and must not be kept."""
        if not math.isfinite(loss):
            raise DataError(
                f"The {what} is no number any more {when}: pass a smaller --learning-rate (it is "
                f"{self.recipe.learning_rate:g}), and another --out."
            )

    def keep_best(self, epoch: int, loss: float, accuracy: float) -> None:
        self.check("validation loss", loss, f"after epoch {epoch + 1}")
        if (accuracy, -loss) > self.best:
            self.best = (accuracy, -loss)
            facts = {"epoch": epoch + 1, "validation_accuracy": accuracy, "validation_loss": loss}
            save_tensors(self.directory / MODEL, self.average.module.state_dict(), facts)

    def save(self, sums: Sums) -> None:
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= {f"average.{name}": tensor for name, tensor in self.average.state_dict().items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in moments.items()}
        save_tensors(self.state_path, tensors, {"step": self.step, "best": self.best, "sums": asdict(sums)})

    def restore(self) -> Sums:
        """Goes back to the saved state, and returns the sums of the epoch it stands in."""
        tensors, facts = load_tensors(self.state_path, "remove it, then the same command begins anew")
        try:
            return self._restore(tensors, facts)
        except (LookupError, TypeError, ValueError) as error:
            raise DataError(
                f"{self.state_path} does not belong to this run: remove it, then the same command begins anew."
            ) from error

    def _restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> Sums:
        try:
            self.model.load_state_dict(below(tensors, "model."))
            self.average.load_state_dict(below(tensors, "average."))
        except torch.OutOfMemoryError:  # a RuntimeError, which the state is not to blame for
            raise
        except RuntimeError as error:
            raise ValueError("The tensors are of another encoder.") from error
        state = self.optimizer.state_dict()
        moments: dict[int, dict[str, Tensor]] = {}
        for path, tensor in below(tensors, "optimizer.").items():
            index, name = path.split(".")
            moments.setdefault(int(index), {})[name] = tensor
        self.optimizer.load_state_dict(state | {"state": moments})
        self.step, self.best = facts["step"], (facts["best"][0], facts["best"][1])
        return Sums(**facts["sums"])


@torch.inference_mode()
def evaluate(
    model: nn.Module, split: Split, encoder: InputEncoder, pooling: PoolingKind = "mean"
) -> tuple[float, float]:
    """Mean cross-entropy (nats) and accuracy (0 to 1) of a split, in float32 on the device of the model."""
    model.eval()
    loss, correct, device = 0.0, 0, device_of(model)
    for batch in evaluation_batches(split, encoder, pooling):
        batch = to_device(batch, device)
        logits = model(*batch.inputs).logits
        loss += F.cross_entropy(logits, batch.targets, reduction="sum").item()
        correct += int((logits.argmax(1) == batch.targets).sum())
    return loss / len(split), correct / len(split)


@contextmanager
def stop_on_signals() -> Iterator[Callable[[], bool]]:
    """Turns the first SIGINT or SIGTERM into a flag that the loop looks at between steps; a second one does at once
    what it did before."""
    asked = False

    def ask(*_: object) -> None:
        nonlocal asked
        asked = True
        give_back()

    def give_back() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        give_back()


def below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
