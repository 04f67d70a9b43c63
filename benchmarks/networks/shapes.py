"""The networks that are measured: shapes that people run, with random weights, exported and adopted."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from export.adopt.tensors.adopter import adopt_tensors
from export.adopt.tensors.answer import TensorHints
from runtime.artifact import Artifact

INPUT, OUTPUT = "image", "scores"
CLASSES, ROWS, OPSET = 10, 70, 17  # rows of the baseline: what is measured does not depend on them
Rows = NDArray[np.float32]
MakeNorm = Callable[[int], nn.Module]  # of so many channels


class Residual(nn.Module):
    """The basic block of He et al. 2015, arXiv:1512.03385."""

    def __init__(self, given: int, width: int, stride: int, norm: MakeNorm) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(given, width, 3, stride, 1, bias=False), norm(width)
        self.conv2, self.norm2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), norm(width)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or given != width:
            self.shortcut = nn.Sequential(nn.Conv2d(given, width, 1, stride, bias=False), norm(width))

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x)))))
        return torch.relu(inner + self.shortcut(x))


def groups_of_channels(width: int) -> nn.Module:
    return nn.GroupNorm(32, width)


def resnet18(width: int, norm: MakeNorm = nn.BatchNorm2d) -> nn.Module:
    stem = (nn.Conv2d(3, width, 7, 2, 3, bias=False), norm(width), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
    blocks, given = list[nn.Module](), width
    for stage in range(4):
        wide = width << stage
        blocks += [Residual(given, wide, 2 if stage else 1, norm), Residual(wide, wide, 1, norm)]
        given = wide
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(given, CLASSES))


def convolutions(width: int, layers: int) -> nn.Module:
    """Convolutions with BatchNorm and ReLU, all of the same size."""
    each = (
        (nn.Conv2d(3 if layer == 0 else width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        for layer in range(layers)
    )
    stages = [module for stage in each for module in stage]
    return nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, CLASSES))


class ConvNeXtBlock(nn.Module):
    """Liu et al. 2022, arXiv:2201.03545, without the scale of the residual."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise, self.norm = nn.Conv2d(width, width, 7, padding=3, groups=width), nn.LayerNorm(width)
        self.inner = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        inner = self.inner(self.norm(self.depthwise(x).permute(0, 2, 3, 1)))
        return x + inner.permute(0, 3, 1, 2)


class ConvNeXt(nn.Module):
    def __init__(self, width: int, blocks: int, patch: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, patch, patch)
        self.blocks = nn.Sequential(*(ConvNeXtBlock(width) for _ in range(blocks)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.stem(image)).mean((2, 3))))


class VisionTransformer(nn.Module):
    """Dosovitskiy et al. 2020, arXiv:2010.11929: pre-LayerNorm blocks over patches of 16 x 16 pixels."""

    def __init__(self, width: int, layers: int, size: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 16, 16)
        self.first = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, (size // 16) ** 2 + 1, width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            width, width // 64, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        patches = self.patches(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.first.expand(patches.shape[0], -1, -1), patches], 1) + self.positions
        return self.head(self.norm(self.blocks(x))[:, 0])


@dataclass(frozen=True, slots=True)
class Shape:
    """A network to measure.

    Attributes:
        size: pixels of an image's side.
        served: whether it is also asked over HTTP.
    """

    title: str
    make: Callable[[], nn.Module]
    size: int
    served: bool = False


SHAPES = {
    "vit": Shape("ViT, 4 layers of 192, 197 tokens", lambda: VisionTransformer(192, 4, 224), 224),
    "convnext": Shape("ConvNeXt-like, 4 blocks of 64, 24 x 24 pixels", lambda: ConvNeXt(64, 4, 4), 96),
    "resnet18": Shape("ResNet-18, 224 x 224 pixels", lambda: resnet18(64), 224),
    "resnet18-groups": Shape("ResNet-18 with GroupNorm of 32 groups", lambda: resnet18(64, groups_of_channels), 224),
    "resnet18-small": Shape("ResNet-18 with 16 channels, 64 x 64 pixels", lambda: resnet18(16), 64),
    "convolutions": Shape("4 convolutions of 96, BatchNorm, 32 x 32 pixels", lambda: convolutions(96, 4), 32, True),
    "convnext-served": Shape("ConvNeXt-like, 6 blocks of 96, 16 x 16 pixels", lambda: ConvNeXt(96, 6, 2), 32, True),
}  # fmt: skip


def images(size: int, rows: int) -> Rows:
    return np.random.default_rng(0).normal(size=(rows, 3, size, size)).astype(np.float32)


def make(shape: Shape) -> nn.Module:
    """The network in evaluation mode; its BatchNorms have seen something."""
    torch.manual_seed(0)
    network = shape.make().train()
    with torch.no_grad():
        for _ in range(4):
            network(torch.randn(8, 3, shape.size, shape.size))
    return network.eval()


def adopted(name: str, folder: Path) -> tuple[Path, Artifact]:
    """The file of a network, and the artifact that it becomes."""
    shape, path = SHAPES[name], folder / f"{name}.onnx"
    folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # this exporter is the older one, which can leave BatchNorm unfolded
        torch.onnx.export(
            make(shape), (torch.from_numpy(images(shape.size, 1)),), str(path), input_names=[INPUT],
            output_names=[OUTPUT], dynamic_axes={INPUT: {0: "rows"}, OUTPUT: {0: "rows"}}, opset_version=OPSET,
            do_constant_folding=False, training=torch.onnx.TrainingMode.PRESERVE, dynamo=False,
        )  # fmt: skip
    rows, labels = folder / f"{name}.npz", folder / "labels.txt"
    np.savez(rows, **{INPUT: images(shape.size, ROWS)})
    labels.write_text("\n".join(f"class {number}" for number in range(CLASSES)))
    found = adopt_tensors(path, rows, folder / "models" / name / "1", TensorHints(labels=labels), overwrite=True)
    return path, found.artifact
