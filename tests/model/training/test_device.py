"""Training is the same code on every device; a GPU, which few machines have, is stood in for at the border of torch."""

import io
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import model.training.trainer as trainer_module
from model.data import Dataset
from model.training.batches import to_batch
from model.training.checkpoint import MODEL, STATE, load_run, load_tensors, save_tensors
from model.training.device import (
    CPU,
    choose_device,
    describe_device,
    device_of,
    has_bfloat16,
    set_threads,
    to_device,
)
from model.training.norm_record import RECORD, read_record
from model.training.recipe import Recipe
from model.training.report import Report
from model.training.run import train
from model.training.teachers import EncoderTeacher
from model.training.trainer import Interrupted, Trainer
from runtime.console import PlainConsole
from runtime.errors import SettingError
from tests.model.training.steps import losses

MakeRecipe = Callable[..., Recipe]
MakeTrainer = Callable[..., Trainer]
CUDA = torch.device("cuda")
FIRST = torch.device("cpu", 0)  # another name of the CPU: to torch it is not equal to the CPU
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


def pretend(
    monkeypatch: pytest.MonkeyPatch, available: bool, built: str | None = "13.0", bfloat16: bool = True
) -> None:
    """Has torch say this of its build and of the machine."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    monkeypatch.setattr(torch.version, "cuda", built)
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or bfloat16
    )
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "A GPU")


def test_auto_takes_cuda_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, available=True)
    assert choose_device("auto") == choose_device("cuda") == CUDA and choose_device("cpu") == CPU
    pretend(monkeypatch, available=False)
    assert choose_device("auto") == choose_device("cpu") == CPU


@pytest.mark.parametrize(
    ("built", "message"),
    [
        (
            None,
            r"is built for the CPU alone: install PyPI's build \(`pip install .* torch==2[.\d]+`\), or pass --device",
        ),
        ("13.0", r"is built for CUDA 13.0 but finds no GPU or no driver .*nvidia-smi.*, or pass --device cpu\.$"),
    ],
)
def test_cuda_is_refused_with_what_is_missing(monkeypatch: pytest.MonkeyPatch, built: str | None, message: str) -> None:
    pretend(monkeypatch, available=False, built=built)
    with pytest.raises(SettingError, match=message):
        choose_device("cuda")


def test_the_device_is_told_with_its_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    assert describe_device(CPU) == "the CPU" and not has_bfloat16(CPU)
    pretend(monkeypatch, available=True)
    assert describe_device(CUDA) == "cuda (A GPU, bfloat16)"
    pretend(monkeypatch, available=True, bfloat16=False)  # which an older GPU would only emulate
    assert describe_device(CUDA) == "cuda (A GPU, float32)"


def test_a_batch_for_cuda_is_pinned_and_copied_while_the_cpu_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned: list[Tensor] = []
    moves: list[tuple[Any, ...]] = []
    monkeypatch.setattr(Tensor, "pin_memory", lambda self: pinned.append(self) or self)
    monkeypatch.setattr(Tensor, "to", lambda self, device, **how: moves.append((self, device, how)) or self.clone())
    batch = to_batch([np.array([1, 2, 3]), np.array([4])], torch.tensor([0, 1]))
    assert to_device(batch, CPU) is batch and not pinned and not moves
    found = to_device(batch, CUDA)
    every = [*batch.inputs, batch.targets]
    assert [id(tensor) for tensor in pinned] == [id(tensor) for tensor, *_ in moves] == [id(tensor) for tensor in every]
    assert all(device == CUDA and how == {"non_blocking": True} for _, device, how in moves)
    assert found.tokens == batch.tokens
    assert all(torch.equal(a, b) for a, b in zip([*found.inputs, found.targets], every, strict=True))


def test_a_run_names_its_device(intents: Dataset, tiny: MakeRecipe, tmp_path: Path) -> None:
    told = io.StringIO()
    train(intents, tiny(epochs=1), tmp_path / "run", console=PlainConsole(file=told, width=200))
    assert "training examples, on the CPU\n" in told.getvalue()


def test_a_run_goes_on_with_another_device_to_the_same_losses(
    intents: Dataset, tiny: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every batch of either device goes through `to_device`, and nothing of the device is kept in the run."""
    train(intents, tiny(), tmp_path / "straight")
    asked: list[torch.device] = []
    step = Report.step

    def interrupt(self: Report, *args: float) -> None:
        step(self, *args)
        if len(asked) == 8:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(trainer_module, "to_device", lambda batch, device: asked.append(device) or batch)
    with monkeypatch.context() as patch:
        patch.setattr(Report, "step", interrupt)
        with pytest.raises(Interrupted):
            train(intents, tiny(), tmp_path / "moved", device=FIRST)
    assert set(map(str, asked)) == {"cpu:0", "cpu"}  # training, and evaluation where the weights say they are
    train(intents, tiny(), tmp_path / "moved")
    for name in (MODEL, STATE):
        (left, facts), (right, others) = (load_tensors(tmp_path / run / name) for run in ("straight", "moved"))
        assert left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)
        assert facts == others


def test_weights_of_any_device_are_written_and_read_on_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[Tensor] = []
    monkeypatch.setattr(Tensor, "cpu", lambda self: fetched.append(self) or self)
    weights = {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.ones(2, dtype=torch.int64)}
    save_tensors(tmp_path / "weights.safetensors", weights, {"step": 3})
    assert len(fetched) == 2
    found, facts = load_tensors(tmp_path / "weights.safetensors")
    assert facts == {"step": 3} and all(found[name].device == CPU for name in weights)
    assert all(torch.equal(found[name], weights[name]) for name in weights)


def test_teachers_answer_on_the_device(intents: Dataset, tiny: MakeRecipe, tmp_path: Path) -> None:
    run = train(intents, tiny(epochs=1), tmp_path / "teacher")
    texts = [str(text) for text in intents.validation.inputs]
    here, there = (EncoderTeacher([run], intents.labels, device).scores(texts) for device in (CPU, FIRST))
    assert np.array_equal(here, there) and np.allclose(np.exp(here).sum(1), 1)


@needs_cuda
def test_cuda_trains_to_the_loss_of_the_cpu_and_goes_on_from_its_state(make_trainer: MakeTrainer) -> None:
    here, there = make_trainer("here"), make_trainer("there", device=CUDA)
    expected, found = losses(here), losses(there)
    assert np.mean(found[-6:]) == pytest.approx(np.mean(expected[-6:]), rel=0.02)
    kept = load_tensors(there.state_path)[0]
    there.restore()
    assert all(torch.equal(value.cpu(), kept[f"model.{name}"]) for name, value in there.model.state_dict().items())
    here.state_path = there.state_path
    here.restore()
    assert all(torch.equal(value, kept[f"model.{name}"]) for name, value in here.model.state_dict().items())


@needs_cuda
def test_a_run_on_cuda_is_taught_and_recorded_there(intents: Dataset, tiny: MakeRecipe, tmp_path: Path) -> None:
    train(intents, tiny(), tmp_path / "teacher", device=CUDA)
    run = train(intents, tiny(), tmp_path / "run", teachers=[tmp_path / "teacher"], device=CUDA, record_norms=True)
    assert device_of(run.model).type == "cuda" and device_of(load_run(tmp_path / "run").model) == CPU
    assert len(read_record(tmp_path / "run" / RECORD)) == 12


@pytest.mark.parametrize(
    ("asked", "own", "cpus", "expected"), [(0, 16, 1, 1), (0, 16, 3, 3), (0, 1, 8, 1), (4, 2, 1, 4)]
)
def test_threads_are_no_more_than_the_quota_has_cpus(
    asked: int, own: int, cpus: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless so many are asked for; and OMP_NUM_THREADS, which torch heeds by itself, stays."""
    found: list[int] = []
    monkeypatch.setattr("model.training.device.usable_cpus", lambda: cpus)
    monkeypatch.setattr(torch, "get_num_threads", lambda: own)
    monkeypatch.setattr(torch, "set_num_threads", found.append)
    set_threads(asked)
    assert found == [expected]
