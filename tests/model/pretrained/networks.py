"""Tiny networks of every family, as directories, and what transformers alone computes with them in float64."""

import copy
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

from export.graph import as_tensors, to_onnx
from model.pretrained.load import load, quiet_transformers
from model.pretrained.packed import PackedTransformer
from model.pretrained.source import Source, read_directory
from model.pretrained.watched import is_norm, norm_eps
from runtime.graph.packing import PackedBatch, pack

torch.set_num_threads(1)  # the networks are so small that handing work to a second thread takes ten times as long

VOCAB, WIDTH = 60, 32
TOLERANCES = {"embedding": 1e-5, "logits": 1e-5, "statistics": 1e-4}
SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
AFTER_PADDING = {"pad_token_id": 1, "max_position_embeddings": 66, "type_vocab_size": 1}
SETTINGS: dict[str, dict[str, Any]] = {
    "bert": {},
    "electra": {"embedding_size": 16},
    "albert": {"embedding_size": 16},
    "distilbert": {"dim": WIDTH, "hidden_dim": 48, "n_layers": 2, "n_heads": 2},
    "roberta": AFTER_PADDING,
    "xlm-roberta": AFTER_PADDING,
    "camembert": AFTER_PADDING,
    "mpnet": AFTER_PADDING,
    "deberta-v2": {
        "relative_attention": True,
        "position_buckets": 8,
        "pos_att_type": ["p2c", "c2p"],
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "position_biased_input": False,
    },
    "modernbert": {
        "local_attention": 8,
        "global_attn_every_n_layers": 2,
        "num_hidden_layers": 3,
        "cls_token_id": 1,
        "sep_token_id": 2,
    },
    "eurobert": {"classifier_pooling": "mean", "num_key_value_heads": 1, "mask_token_id": 3},
    "nomic_bert": {},
    "gte": {},
    "jina_embeddings_v3": {},
}


def save_network(path: Path, model_type: str, classes: int = 0, **settings: Any) -> Any:
    """Saves a random network with a tokenizer; with so many classes, or as an encoder alone."""
    torch.manual_seed(0)
    settings = SIZES | SETTINGS[model_type] | settings
    config = AutoConfig.for_model(model_type, **settings, **({"num_labels": classes} if classes else {}))
    with quiet_transformers():
        network: Any = (AutoModelForSequenceClassification if classes else AutoModel).from_config(config)
        with torch.no_grad():
            for name, weights in network.named_parameters():
                weights.copy_(torch.randn_like(weights) / 4 if name.endswith("bias") else weights * 3)
        network.eval().save_pretrained(path)
    save_tokenizer(path)
    return network


def save_tokenizer(path: Path) -> None:
    words = {name: number for number, name in enumerate(["[PAD]", "[CLS]", "[SEP]", "[UNK]", *"abcdefghijklmnop"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    tokenizer.enable_padding(length=40)
    tokenizer.enable_truncation(5)
    tokenizer.save(str(path / "tokenizer.json"))


def save_modules(path: Path, *kinds: str, **pooling: Any) -> None:
    """Lists modules as sentence-transformers does, with settings of the pooling."""
    folders = {kind: f"{number}_{kind}" if number else "" for number, kind in enumerate(kinds)}
    entries = [{"type": f"sentence_transformers.models.{kind}", "path": folders[kind]} for kind in kinds]
    (path / "modules.json").write_text(json.dumps(entries))
    for folder in folders.values():
        (path / folder).mkdir(exist_ok=True)
    if "Pooling" in kinds:
        (path / folders["Pooling"] / "config.json").write_text(json.dumps({"include_prompt": True} | pooling))


def write(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content))


def change(directory: Path, **settings: Any) -> None:
    """Changes settings in config.json."""
    file = directory / "config.json"
    write(file, json.loads(file.read_bytes()) | settings)


class Answer(NamedTuple):
    """What one pass gives: [R, C] or None, [R, D], and mean and 1/sigma of every token [N, 2L]."""

    logits: NDArray[Any] | None
    embedding: NDArray[Any]
    statistics: NDArray[Any]


class Texts(NamedTuple):
    """Random sequences, and the token types of each."""

    ids: list[NDArray[np.int64]]
    types: list[NDArray[np.int64]]


def random_texts(types: bool) -> Texts:
    """Nine sequences of 1 to 31 tokens; with types, the latter half of each is a second text."""
    rng = np.random.default_rng(0)
    lengths = [1, 31, 2, 17, 9, 24, 5, 12, 3]
    ids = [rng.integers(3, VOCAB, length) for length in lengths]
    return Texts(ids, [(np.arange(length) >= (length + 1) // 2).astype(np.int64) * types for length in lengths])


def pack_for(module: PackedTransformer, texts: Texts) -> PackedBatch:
    """The texts in packs of 32 tokens, with their types if the module takes them."""
    pairs = zip(texts.ids, texts.types, strict=True)
    sequences = [np.stack(pair, -1) for pair in pairs] if module.type_ids else texts.ids
    return pack(sequences, 32, module.pooling)


def as_answer(outputs: Sequence[Any], batch: PackedBatch) -> Answer:
    """Outputs of a module or a graph, valid tokens only."""
    *logits, embedding, statistics = (np.asarray(output) for output in outputs)
    tokens = statistics.reshape(-1, statistics.shape[-1])[batch.token_index]
    return Answer(logits[0] if logits else None, embedding, tokens)


@torch.inference_mode()
def run(module: PackedTransformer, texts: Texts) -> Answer:
    batch, dtype = pack_for(module, texts), next(module.parameters()).dtype
    tensors = [tensor.to(dtype) if tensor.is_floating_point() else tensor for tensor in as_tensors(batch)]
    return as_answer(module(*tensors), batch)


def export(module: PackedTransformer, texts: Texts) -> Callable[[Texts], Answer]:
    """The exported graph, traced with three of the texts."""
    proto = to_onnx(module, pack_for(module, Texts(texts.ids[3:6], texts.types[3:6])))
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_inputs()] == module.input_names
    assert [value.name for value in session.get_outputs()] == list(module.outputs)

    def run_graph(texts: Texts) -> Answer:
        batch = pack_for(module, texts)
        arrays = [tensor.numpy() for tensor in as_tensors(batch)]
        return as_answer(session.run(None, dict(zip(module.input_names, arrays, strict=True))), batch)

    return run_graph


def adopted(path: Path, pooling: str | None = None) -> tuple[Source, PackedTransformer]:
    source = read_directory(path, pooling)
    return source, load(source)


def pool_one(tokens_ND: Tensor, name: str) -> Tensor:
    """One vector of one sequence, as sentence-transformers defines it."""
    if name == "max":
        return tokens_ND.amax(0)
    rank_N = torch.arange(1, len(tokens_ND) + 1, dtype=tokens_ND.dtype)
    return {
        "mean": tokens_ND.mean(0),
        "cls": tokens_ND[0],
        "last": tokens_ND[-1],
        "weighted": rank_N @ tokens_ND / rank_N.sum(),
    }[name]


@torch.inference_mode()
def reference(network: Any, texts: Texts, pooling: str, types: bool = False) -> Answer:
    """What transformers computes in float64, one sequence after the other."""
    network = copy.deepcopy(network).double()
    seen: list[Tensor] = []
    encoder = network.base_model
    for module in filter(is_norm, encoder.modules()):
        module.register_forward_hook(lambda norm, inputs, _: seen.append(moments(norm, inputs[0])))
    hidden: list[Tensor] = []
    encoder.register_forward_hook(lambda _module, _inputs, output: hidden.append(output[0][0]))
    logits, statistics = [], []
    for ids, type_ids in zip(texts.ids, texts.types, strict=True):
        seen.clear()
        inputs = {"token_type_ids": torch.from_numpy(type_ids)[None]} if types else {}
        tokens = torch.from_numpy(ids)[None]
        output = network(tokens, attention_mask=torch.ones_like(tokens), **inputs)
        logits += [output.logits[0]] if "logits" in output else []
        statistics.append(torch.cat([norm[0] for norm in seen if norm.shape[:2] == (1, len(ids))], -1))
    embedding = torch.stack([pool_one(tokens, pooling) for tokens in hidden])
    return Answer(torch.stack(logits).numpy() if logits else None, embedding.numpy(), torch.cat(statistics).numpy())


def moments(norm: nn.Module, x: Tensor) -> Tensor:
    """Mean and 1/sigma of every token, side by side [1, N, 2]; of DeBERTa's table of positions [entries, 2]."""
    variance = x.var(-1, correction=0, keepdim=True)
    return torch.cat([x.mean(-1, keepdim=True), (variance + norm_eps(norm)).rsqrt()], -1)


def errors(found: Answer, expected: Answer) -> dict[str, float]:
    """The largest error of each kind, relative; that of a mean in sigmas of its token."""
    inv_std = expected.statistics[:, 1::2]
    means = np.abs(found.statistics[:, 0::2] - expected.statistics[:, 0::2]) * inv_std
    kinds = {
        "embedding": relative(found.embedding, expected.embedding),
        "statistics": max(float(means.max()), float(np.abs(found.statistics[:, 1::2] / inv_std - 1).max())),
    }
    if expected.logits is not None:
        kinds["logits"] = relative(found.logits, expected.logits)
    return kinds


def check(found: Answer, expected: Answer) -> None:
    for kind, error in errors(found, expected).items():
        assert error <= TOLERANCES[kind], kind


def relative(found: Any, expected: NDArray[Any]) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())
