"""Small networks that read tensors, with random weights, exported as others would; and rows for them."""

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import version_converter
from torch import Tensor, nn

from export.adopt.tensors.adopter import adopt_tensors
from export.adopt.tensors.answer import TensorHints
from export.adopt.writing import Adopted
from tests.export.adopt.onnx_file.files import few_draws

ROWS, NEWEST = 12, 20  # opset that the exporter knows


class Image(nn.Module):
    """Convolutions with BatchNorm, one of them on a residual stream."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.conv2, self.bn2 = nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.head = nn.Linear(6, 3)

    def forward(self, image: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(image)))
        x = torch.relu(self.bn2(self.conv2(x)) + x)
        return self.head(x.mean((2, 3)))


class Patches(nn.Module):
    """LayerNorm over the channels of every pixel, as ConvNeXt has it, and over the whole at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 5, 2, 2), nn.LayerNorm(5)
        self.final, self.head = nn.LayerNorm(5), nn.Linear(5, 3)

    def forward(self, image: Tensor) -> Tensor:
        x = self.norm(self.stem(image).permute(0, 2, 3, 1))
        return self.head(self.final(x.mean((1, 2))))


class RMSNorm(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(features) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * self.weight


class Series(nn.Module):
    """A time series of any length: RMSNorm over features, BatchNorm over channels, norms over time."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.rms = nn.Linear(2, 4), RMSNorm(4)
        self.conv, self.bn = nn.Conv1d(4, 6, 3, padding=1), nn.BatchNorm1d(6)
        self.group, self.instance, self.head = nn.GroupNorm(2, 6), nn.InstanceNorm1d(6, affine=True), nn.Linear(6, 3)

    def forward(self, series: Tensor) -> Tensor:
        x = self.rms(self.mix(series)).transpose(1, 2)
        return self.head(self.instance(self.group(torch.relu(self.bn(self.conv(x))))).mean(2))


class Groups(nn.Module):
    """GroupNorm over two groups of channels, and InstanceNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.group = nn.Conv2d(1, 6, 3, padding=1), nn.GroupNorm(2, 6, eps=1e-4)
        self.conv2, self.instance = nn.Conv2d(6, 6, 3, padding=1), nn.InstanceNorm2d(6, affine=True)
        self.head = nn.Linear(6, 3)

    def forward(self, image: Tensor) -> Tensor:
        x = torch.relu(self.group(self.conv1(image)))
        return self.head(torch.relu(self.instance(self.conv2(x))).mean((2, 3)))


class Table(nn.Module):
    """A tabular network: BatchNorm over the columns and behind a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.bn0, self.linear, self.bn1, self.head = (
            nn.BatchNorm1d(4),
            nn.Linear(4, 6),
            nn.BatchNorm1d(6),
            nn.Linear(6, 3),
        )

    def forward(self, columns: Tensor) -> Tensor:
        return self.head(torch.relu(self.bn1(self.linear(self.bn0(columns)))))


class Pair(nn.Module):
    """Two inputs, one of them whole numbers, and two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.linear, self.norm, self.head = (
            nn.Embedding(5, 4),
            nn.Linear(3, 4),
            nn.LayerNorm(4),
            nn.Linear(4, 2),
        )

    def forward(self, columns: Tensor, kind: Tensor) -> tuple[Tensor, Tensor]:
        x = self.norm(self.linear(columns) + self.table(kind))
        return self.head(x), (x * x).sum(-1, keepdim=True)


class Half(nn.Module):
    """Half precision goes in and comes out."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm, self.head = nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2)

    def forward(self, columns: Tensor) -> Tensor:
        wide = columns if columns.dtype == torch.float64 else columns.float()
        return self.head(self.norm(self.linear(wide))).half()


@dataclass(frozen=True)
class Case:
    """A network, its inputs by name, and the axes of a row that are free."""

    network: type[nn.Module]
    inputs: dict[str, tuple[int, ...]]
    free: tuple[int, ...] = ()
    outputs: tuple[str, ...] = ("scores",)
    whole: tuple[str, ...] = ()
    dtype: str = "float32"


CASES = {
    "image": Case(Image, {"image": (1, 8, 8)}),
    "patches": Case(Patches, {"image": (1, 8, 8)}),
    "groups": Case(Groups, {"image": (1, 8, 8)}),
    "series": Case(Series, {"series": (7, 2)}, free=(0,)),
    "table": Case(Table, {"columns": (4,)}),
    "pair": Case(Pair, {"columns": (3,), "kind": ()}, outputs=("scores", "energy"), whole=("kind",)),
    "half": Case(Half, {"columns": (3,)}, dtype="float16"),
}


def make(name: str) -> nn.Module:
    """The network in evaluation mode; its BatchNorms have seen something."""
    torch.manual_seed(len(name))
    network = CASES[name].network().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            with torch.no_grad():
                for value in (module.running_mean, module.bias):
                    value.normal_(0, 0.3)
                for value in (module.running_var, module.weight):
                    value.uniform_(0.5, 1.5)
    return network


def rows_of(name: str, rows: int = ROWS, seed: int = 0) -> dict[str, NDArray[Any]]:
    rng, case = np.random.default_rng(seed), CASES[name]
    return {
        key: rng.integers(0, 5, (rows, *shape))
        if key in case.whole
        else rng.normal(size=(rows, *shape)).astype(case.dtype)
        for key, shape in case.inputs.items()
    }


def exported(name: str, opset: int = 17, rows: int | None = None, folded: bool = False) -> bytes:
    """The network as an ONNX file.

    Args:
        rows: the fixed number of rows; free where it is not given.
        folded: whether PyTorch may fold BatchNorm into what comes before.
    """
    case, content = CASES[name], io.BytesIO()
    axes = {key: {0: "rows"} | {axis + 1: f"size_{axis}" for axis in case.free} for key in case.inputs}
    mode = torch.onnx.TrainingMode.EVAL if folded else torch.onnx.TrainingMode.PRESERVE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            make(name),
            tuple(torch.from_numpy(value) for value in rows_of(name, rows or 2).values()),
            content,
            input_names=list(case.inputs),
            output_names=list(case.outputs),
            dynamic_axes={} if rows else axes | {key: {0: "rows"} for key in case.outputs},
            opset_version=min(opset, NEWEST),
            do_constant_folding=folded,
            training=mode,
            dynamo=False,
        )
    if opset <= NEWEST:
        return content.getvalue()
    converted: bytes = version_converter.convert_version(
        onnx.load_from_string(content.getvalue()), opset
    ).SerializeToString()
    return converted


def adopt(folder: Path, name: str, content: bytes | None = None, rows: int = ROWS, **hints: Any) -> Adopted:
    """Adopts a case's file as folder/models/name/1."""
    path, baseline = folder / f"{name}.onnx", folder / f"{name}.npz"
    path.write_bytes(exported(name) if content is None else content)
    np.savez(baseline, **rows_of(name, rows))
    with few_draws():
        return adopt_tensors(path, baseline, folder / "models" / name / "1", TensorHints(**hints))
