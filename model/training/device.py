"""Where an encoder is trained: the choice of the device, how batches get there, and the precision of its products.

The CPU goes the same way as a GPU, but nothing is copied or rounded there: its losses are the same to the last bit.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from model.training.batches import Batch
from runtime.cpus import usable_cpus
from runtime.errors import SettingError
from runtime.options import TrainingDevice

CPU = torch.device("cpu")


def choose_device(wanted: TrainingDevice) -> torch.device:
    """The device to train on: of auto, CUDA where torch finds a GPU, else the CPU.

    Raises:
        SettingError: CUDA is asked for, and torch has none or finds no GPU.
    """
    if wanted == "cpu":
        return CPU
    if torch.cuda.is_available():
        return torch.device("cuda")
    if wanted == "auto":
        return CPU
    if torch.version.cuda is None:
        public = torch.__version__.split("+")[0]
        raise SettingError(
            f"--device cuda: torch {torch.__version__} is built for the CPU alone: install PyPI's build (`pip install "
            f"--force-reinstall --index-url https://pypi.org/simple torch=={public}`), or pass --device cpu."
        )
    raise SettingError(
        f"--device cuda: torch is built for CUDA {torch.version.cuda} but finds no GPU or no driver "
        "(torch.cuda.is_available() is False): see whether `nvidia-smi` lists one, or pass --device cpu."
    )


def describe_device(device: torch.device) -> str:
    """A device in words, with the precision of its matrix products."""
    if device.type != "cuda":
        return f"the {device.type.upper()}"
    precision = "bfloat16" if has_bfloat16(device) else "float32"
    return f"{device} ({torch.cuda.get_device_name(device)}, {precision})"


def set_threads(threads: int = 0) -> None:
    """Has torch compute in so many threads; 0: in what it takes by itself, at most one per CPU that this may use.

    torch heeds OMP_NUM_THREADS, but no container's quota: more threads than that wait for each other.
    """
    torch.set_num_threads(threads or min(torch.get_num_threads(), usable_cpus()))


def device_of(model: nn.Module) -> torch.device:
    """Where the weights of a model are."""
    return next(model.parameters()).device


def to_device(batch: Batch, device: torch.device) -> Batch:
    """A batch with all its tensors on `device`; on the CPU it is the same batch."""
    if device.type == "cpu":
        return batch
    values, position_ids, segment_ids, pooling = (moved(tensor, device) for tensor in batch.inputs)
    return Batch((values, position_ids, segment_ids, pooling), moved(batch.targets, device), batch.tokens)


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on another device; to CUDA from pinned memory, so that the CPU need not wait for the copy."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def has_bfloat16(device: torch.device) -> bool:
    """Whether a GPU multiplies in bfloat16 itself: from compute capability 8.0 on; older ones only emulate it."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def autocast(device: torch.device, enabled: bool) -> AbstractContextManager[object]:
    """In this context, matrix products and attention are computed in bfloat16, if `enabled`.

    Norms and what they see stay in float32 (model/network/norms.py), and so do weights, gradients and the loss. Unlike
    float16, bfloat16 has the exponents of float32, so that no gradient has to be scaled.
    """
    return torch.autocast(device.type, dtype=torch.bfloat16) if enabled else nullcontext()
