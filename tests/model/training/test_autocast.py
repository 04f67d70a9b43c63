"""Products in bfloat16, norms and loss in float32: by the code that a GPU runs, on the CPU."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import model.training.trainer as trainer_module
from model.network.config import EncoderConfig
from model.network.encoder import Encoder, EncoderOutput
from model.network.norms import NoNorm, Norm, make_norm
from model.training.batches import to_batch, training_batches
from model.training.checkpoint import load_tensors
from model.training.device import CPU, autocast
from model.training.trainer import Trainer, evaluate
from tests.model.training.steps import losses

MakeTrainer = Callable[..., Trainer]
NORMS = ("layer_norm", "rms_norm", "batch_norm", "none")


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("training", [True, False])
def test_norms_see_and_tell_float32_of_what_is_in_bfloat16(norm: Any, training: bool) -> None:
    x_PSD = (3 + torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))).bfloat16()
    valid_PS1 = torch.ones(2, 5, 1)

    def run(x: Tensor) -> tuple[Tensor, Any]:
        module: Norm = make_norm(norm, 8, 1e-5).train(training)
        y, statistics = module(x, valid_PS1)
        return (y.float() if isinstance(module, NoNorm) else y), statistics

    (y, found), (wide, expected) = run(x_PSD), run(x_PSD.float())
    assert y.dtype == found.mean.dtype == found.inv_std.dtype == torch.float32
    assert torch.equal(y, wide)
    assert torch.equal(found.mean, expected.mean) and torch.equal(found.inv_std, expected.inv_std)


def test_float64_stays_float64() -> None:
    """In which an exported graph is verified."""
    x_PSD = torch.ones(1, 2, 8, dtype=torch.float64)
    for norm in NORMS:
        y, found = make_norm(norm, 8, 1e-5).double()(x_PSD, torch.ones(1, 2, 1, dtype=torch.float64))
        assert y.dtype == found.mean.dtype == torch.float64


@pytest.mark.parametrize("placement", ["pre", "post"])
@pytest.mark.parametrize("norm", NORMS)
def test_autocast_multiplies_in_bfloat16_and_norms_in_float32(norm: Any, placement: Any) -> None:
    torch.manual_seed(0)
    size = {"d_model": 16, "num_heads": 2, "num_layers": 2, "d_ff": 32, "num_classes": 3, "max_tokens": 12}
    encoder = Encoder(EncoderConfig(**size, norm=norm, placement=placement, vocab_size=40, num_features=0, dropout=0.0))
    batch = to_batch([np.arange(1, 9), np.arange(3, 7)], torch.empty(0))
    with autocast(CPU, True):
        lower: EncoderOutput = encoder(*batch.inputs)
    with autocast(CPU, False):
        full: EncoderOutput = encoder(*batch.inputs)
    assert lower.logits.dtype == torch.bfloat16 and full.logits.dtype == torch.float32
    for found, expected in zip(lower.statistics, full.statistics, strict=True):
        assert found.mean.dtype == found.inv_std.dtype == torch.float32
        valid = batch.inputs[2] > 0
        assert torch.allclose(found.mean[valid], expected.mean[valid], atol=0.05)
        assert torch.allclose(found.inv_std[valid], expected.inv_std[valid], rtol=0.05)


def test_autocast_trains_to_about_the_same_loss_with_weights_in_float32(make_trainer: MakeTrainer) -> None:
    full, lower = make_trainer("full"), make_trainer("lower", bfloat16=True)
    assert not full.bfloat16
    expected, found = losses(full), losses(lower)
    assert found != expected
    assert np.mean(found[-6:]) == pytest.approx(np.mean(expected[-6:]), rel=0.02)
    assert np.mean(found[-6:]) < 0.8 * np.mean(found[:6])
    floating = [value for value in load_tensors(lower.state_path)[0].values() if value.is_floating_point()]
    assert {value.dtype for value in floating} == {torch.float32}


def test_the_loss_is_computed_in_float32(make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer("run", bfloat16=True)
    seen: list[torch.dtype] = []
    cross_entropy = trainer_module.F.cross_entropy

    def note(logits: Tensor, *args: Any, **how: Any) -> Tensor:
        loss = cross_entropy(logits, *args, **how)
        seen.extend((logits.dtype, loss.dtype))
        return loss

    monkeypatch.setattr(trainer_module.F, "cross_entropy", note)
    trainer.train_step(next(training_batches(trainer.examples, trainer.size, 8, 0, 0)))
    evaluate(trainer.model, trainer.validation, trainer.encoder)
    assert set(seen) == {torch.float32}
