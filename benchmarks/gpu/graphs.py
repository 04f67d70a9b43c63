"""`python -m benchmarks.gpu.graphs --out DIR`: the graphs that are measured, without their weights.

They come from the exporter, as those that are served do. Their weights are taken out, so that the folder is small
enough to travel; the machine that measures draws them again by seed (sessions.py).
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from pydantic_settings import BaseSettings, CliApp

from benchmarks.gpu.network import Shape
from benchmarks.gpu.sessions import LIST, WEIGHTS, Initializer, Weights, make_weights
from export.graph import ServedEncoder, only, to_onnx
from export.precision.fp16 import to_fp16
from export.precision.lower import with_shared_weights
from model.network.config import EncoderConfig
from model.network.encoder import Encoder
from runtime.artifact import read_artifact
from runtime.graph.packing import pack
from runtime.options import option_config

EMBEDDED = Path(__file__).parents[2] / "models" / "intents" / "1"
ALIGNED = 64  # bytes; where a weight may begin
LARGEST = 1024  # bytes; of what stays in a graph, such as the shapes of reshapes
PRECISIONS = ("fp32", "fp16")
WITHOUT = ("logits", "embedding")  # outputs of a graph without statistics


class Graphs(BaseSettings):
    """Exports the graphs that `python -m benchmarks.gpu` measures."""

    model_config = option_config("python -m benchmarks.gpu.graphs")

    out: Path
    """Folder to write."""
    only: list[str] = []
    """Networks to export, with commas between; by default all."""

    def cli_cmd(self) -> None:
        shapes = networks()
        if unknown := [name for name in self.only if name not in shapes]:
            raise SystemExit(f"There is no network {unknown[0]!r}, expected {', '.join(shapes)}.")
        write_graphs({name: shapes[name] for name in self.only or shapes}, self.out)
        size = sum(path.stat().st_size for path in self.out.iterdir())
        print(f"{self.out}: {size / 1e6:.2f} MB")


def networks() -> dict[str, Shape]:
    """The networks that are measured.

    `embedded` is the model in the repository, `small` that of the serving tables (benchmarks/serving/artifacts.py);
    `minilm` and `bert-base` have the sizes of all-MiniLM-L6-v2 and of BERT (Devlin et al. 2018, arXiv:1810.04805),
    as encoders that this project trains: without token types, and with one matrix for query, key and value.
    """
    return {
        "embedded": embedded_shape(),
        "small": Shape(128, 4, 4, 512, num_classes=150, max_tokens=512, vocab_size=5314),
        "minilm": Shape(384, 12, 6, 1536, num_classes=2, max_tokens=512, vocab_size=30522, eps=1e-12),
        "bert-base": Shape(768, 12, 12, 3072, num_classes=2, max_tokens=512, vocab_size=30522, eps=1e-12),
    }


def embedded_shape() -> Shape:
    """That of the served model, from its manifest."""
    manifest = read_artifact(EMBEDDED).manifest
    recipe = manifest.training["recipe"]
    chosen = ("d_model", "num_heads", "num_layers", "d_ff", "vocab_size", "placement", "eps")
    return Shape(
        **{name: recipe[name] for name in chosen},
        num_classes=len(manifest.labels),
        max_tokens=manifest.inputs.max_tokens,
    )


def write_graphs(shapes: Mapping[str, Shape], folder: Path) -> None:
    """Writes the graphs of all networks, and their list."""
    folder.mkdir(parents=True, exist_ok=True)
    listed: list[dict[str, Any]] = []
    for name, shape in shapes.items():
        weights = make_weights(shape)
        for (precision, statistics), proto in variants(shape, weights).items():
            initializers = take_out(proto, weights)
            file = f"{name}-{precision}{'' if statistics else '-bare'}.onnx"
            (folder / file).write_bytes(proto.SerializeToString())
            listed.append(
                {
                    "file": file,
                    "network": name,
                    "precision": precision,
                    "statistics": statistics,
                    "shape": asdict(shape),
                    "initializers": [asdict(item) for item in initializers],
                }
            )
    (folder / LIST).write_text(json.dumps(listed, indent=1))


def variants(shape: Shape, weights: Weights) -> dict[tuple[str, bool], onnx.ModelProto]:
    """The graphs of a network, by precision and by whether they give statistics."""
    encoder = Encoder(EncoderConfig(**asdict(shape), norm="layer_norm", dropout=0.0))
    encoder.load_state_dict({name: torch.from_numpy(values) for name, values in weights.items()})
    rng = np.random.default_rng(0)
    example = pack([rng.integers(0, shape.vocab_size, length) for length in (9, 7, 30)])
    served = to_onnx(ServedEncoder(encoder), example)
    graphs = {"fp32": served, "fp16": with_shared_weights(to_fp16(served))}
    return {
        (precision, statistics): only([*WITHOUT, "norm_statistics"] if statistics else WITHOUT, graphs[precision])
        for precision in PRECISIONS
        for statistics in (True, False)
    }


def take_out(proto: onnx.ModelProto, weights: Weights) -> list[Initializer]:
    """Takes every parameter of the network out of a graph, and says which it was and where its content belongs.

    A parameter is recognized by its values, so that a wrong assignment cannot pass unseen.

    Raises:
        ValueError: something large is no parameter.
    """
    found, end = list[Initializer](), 0
    for tensor in proto.graph.initializer:
        array = numpy_helper.to_array(tensor)
        origin = parameter_of(array, weights) if array.dtype in (np.float32, np.float16) else None
        if origin is None:
            if array.nbytes > LARGEST:
                raise ValueError(f"{tensor.name}, {array.dtype} {array.shape}, is no parameter of the network")
            continue
        item = Initializer(tensor.name, array.shape, str(array.dtype), end, array.nbytes, *origin)
        end += -(-array.nbytes // ALIGNED) * ALIGNED
        point_to_weights(tensor, item)
        found.append(item)
    return found


def parameter_of(array: NDArray[Any], weights: Weights) -> tuple[str, bool] | None:
    """The parameter that has these values, and whether transposed."""
    for name, values in weights.items():
        for transposed in (False, True):
            given = values.T if transposed else values
            if given.shape != array.shape or given.flat[0].astype(array.dtype) != array.flat[0]:
                continue
            if np.array_equal(given.astype(array.dtype), array):
                return name, transposed and values.ndim > 1
    return None


def point_to_weights(tensor: TensorProto, item: Initializer) -> None:
    """Replaces a tensor's content by its place in the file of weights."""
    place = {"location": WEIGHTS, "offset": item.offset, "length": item.length}
    tensor.ClearField("raw_data")
    tensor.ClearField("float_data")
    tensor.ClearField("int32_data")
    tensor.data_location = TensorProto.EXTERNAL
    del tensor.external_data[:]
    tensor.external_data.extend(onnx.StringStringEntryProto(key=key, value=str(value)) for key, value in place.items())


if __name__ == "__main__":
    CliApp.run(Graphs)
