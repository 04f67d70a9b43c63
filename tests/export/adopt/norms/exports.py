"""Tiny encoders with random weights, exported as others do, and what others then do with the file."""

import io
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_dynamic, quantize_static
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.optimizer import optimize_model
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    EuroBertConfig,
    EuroBertModel,
    ModernBertConfig,
    ModernBertModel,
    RobertaConfig,
    RobertaModel,
    T5Config,
    T5EncoderModel,
)

from export.adopt.norms.probing import Feeds

VOCAB, WIDTH, HEADS = 60, 32, 4
SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": HEADS,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "attn_implementation": "eager",
}
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
MODELS: dict[str, Callable[[], nn.Module]] = {
    "bert": lambda: BertModel(BertConfig(**SIZES), add_pooling_layer=False),
    "shallow": lambda: BertModel(BertConfig(**SIZES | {"num_hidden_layers": 1}), add_pooling_layer=False),
    "distilbert": lambda: DistilBertModel(
        DistilBertConfig(vocab_size=VOCAB, dim=WIDTH, n_layers=2, n_heads=HEADS, hidden_dim=48)
    ),
    "roberta": lambda: RobertaModel(RobertaConfig(**SIZES), add_pooling_layer=False),
    "modernbert": lambda: ModernBertModel(ModernBertConfig(**SIZES, **SPECIAL)),
    "t5": lambda: T5EncoderModel(
        T5Config(vocab_size=VOCAB, d_model=WIDTH, d_kv=8, d_ff=48, num_layers=2, num_heads=HEADS)
    ),
    "eurobert": lambda: EuroBertModel(EuroBertConfig(**SIZES, **SPECIAL, num_key_value_heads=HEADS, mask_token_id=3)),
}
INPUTS = ["input_ids", "attention_mask"]


class Served(nn.Module):
    """An encoder whose output is a tensor, and which notes the norms it runs through."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.called: list[str] = []
        for name, module in self.named_modules():
            if "Norm" in type(module).__name__ and hasattr(module, "weight"):
                module.register_forward_pre_hook(lambda *_, name=name: self.called.append(name))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.model(input_ids=input_ids, attention_mask=attention_mask)[0]


@cache
def served(family: str) -> Served:
    """A network in whose parameters no two are equal: exporters merge such."""
    torch.manual_seed(0)
    model = Served(MODELS[family]()).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def norm_names(family: str) -> list[str]:
    """The norms of a network in the order in which they run."""
    model = served(family)
    model.called.clear()
    with torch.inference_mode():
        model(*(torch.from_numpy(values) for values in feeds()[0].values()))
    return list(model.called)


def feeds() -> list[Feeds]:
    """Batches of token ids, the last row of each padded."""
    rng, batches = np.random.default_rng(0), []
    for shape in ((2, 9), (1, 1), (3, 17)):
        mask = np.ones(shape, np.int64)
        mask[-1, (shape[1] + 1) // 2 :] = 0
        batches.append({"input_ids": rng.integers(4, VOCAB, shape), "attention_mask": mask})
    return batches


@cache
def exported(family: str, opset: int, dynamo: bool = False) -> bytes:
    model, example = served(family), tuple(torch.from_numpy(values) for values in feeds()[0].values())
    axes = {0: "batch", 1: "tokens"}
    shapes: dict[str, Any] = (
        {"dynamic_shapes": ({0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC},) * 2}
        if dynamo
        else {"dynamic_axes": dict.fromkeys([*INPUTS, "hidden"], axes)}
    )
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names = {"input_names": INPUTS, "output_names": ["hidden"]}
        program = torch.onnx.export(
            model, example, None if dynamo else content, dynamo=dynamo, opset_version=opset, **names, **shapes
        )
    return program.model_proto.SerializeToString() if program else content.getvalue()


def fused(model: bytes, folder: Path) -> bytes:
    """Through ONNX Runtime's optimizer of Transformers."""
    source, target = folder / "model.onnx", folder / "fused.onnx"
    source.write_bytes(model)
    optimize_model(str(source), "bert", HEADS, WIDTH, opt_level=0).save_model_to_file(str(target))
    return target.read_bytes()


def in_half(model: bytes, _: Path) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numbers that float16 does not hold
        return convert_float_to_float16(onnx.load_from_string(model), keep_io_types=True).SerializeToString()


def in_integers(model: bytes, folder: Path) -> bytes:
    """Linear layers in integers, their scales taken from each batch."""
    target = folder / "int8.onnx"
    quantize_dynamic(onnx.load_from_string(model), target)
    return target.read_bytes()


def between_integers(model: bytes, folder: Path) -> bytes:
    """Most operators between QuantizeLinear and DequantizeLinear, those of norms too."""

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.batches = iter(feeds())

        def get_next(self) -> Feeds | None:
            return next(self.batches, None)

    target = folder / "qdq.onnx"
    operators = ["MatMul", "Add", "Sub", "Div", "Mul", "Sqrt", "Pow", "ReduceMean", "LayerNormalization", "Gather"]
    quantize_static(onnx.load_from_string(model), target, Reader(), QuantFormat.QDQ, op_types_to_quantize=operators)
    return target.read_bytes()
