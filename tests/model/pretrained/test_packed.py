import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from model.pretrained import load as loading
from model.pretrained.load import load
from model.pretrained.source import read_directory
from runtime.errors import ExportError
from tests.model.pretrained.networks import (
    adopted,
    change,
    check,
    export,
    random_texts,
    reference,
    run,
    save_modules,
    save_network,
    write,
)

CLASSES = 3


@pytest.mark.parametrize("pooling", ["max", "cls", "last", "weighted"])
def test_every_pooling_is_that_of_sentence_transformers(pooling: str, tmp_path: Path) -> None:
    network = save_network(tmp_path, "bert")
    texts = random_texts(types=False)
    check(run(adopted(tmp_path, pooling)[1], texts), reference(network, texts, pooling))


def test_max_pooling_and_dense_layers_are_exported(tmp_path: Path) -> None:
    network = save_network(tmp_path, "modernbert")
    save_modules(tmp_path, "Transformer", "Pooling", "Dense", "Normalize", pooling_mode="max")
    linear = save_dense(tmp_path / "2_Dense")
    source, module = adopted(tmp_path)
    assert (source.pooling, source.normalize, module.d_model) == ("max", True, 8)
    texts = random_texts(types=False)
    plain = reference(network, texts, "max")
    expected = plain._replace(embedding=linear.double()(torch.from_numpy(plain.embedding)).tanh().detach().numpy())
    check(export(module, texts)(texts), expected)


def test_norms_are_named_in_the_order_they_run(tmp_path: Path) -> None:
    save_network(tmp_path, "albert")
    _, module = adopted(tmp_path, "mean")
    layer = "encoder.albert_layer_groups.0.albert_layers.0"
    assert [(norm.name, norm.d_model) for norm in module.norms] == [
        ("embeddings.LayerNorm", 16),
        *((f"{layer}.{norm}.{n}", 32) for n in range(2) for norm in ("attention.LayerNorm", "full_layer_layer_norm")),
    ]
    assert {(norm.kind, norm.placement, norm.eps) for norm in module.norms} == {("layer_norm", "post", 1e-12)}


@pytest.mark.parametrize(
    ("model_type", "name", "reason"),
    [("deberta-v2", "encoder.LayerNorm", "one vector for each token"), ("modernbert", "head.norm", "pooled rows")],
)
def test_norms_that_are_not_of_tokens_are_left_out(model_type: str, name: str, reason: str, tmp_path: Path) -> None:
    save_network(tmp_path, model_type, CLASSES)
    _, module = adopted(tmp_path)
    assert [left for left, _ in module.unobserved] == [name]
    assert reason in module.unobserved[0][1]


def test_rms_norms_are_reported_as_such(tmp_path: Path) -> None:
    save_network(tmp_path, "eurobert")
    _, module = adopted(tmp_path, "mean")
    assert {(norm.kind, norm.placement) for norm in module.norms} == {("rms_norm", "pre")}
    assert len(module.norms) == 5


@pytest.mark.parametrize("model_type", ["bert", "eurobert"])
def test_a_copy_in_float64_records_for_itself(model_type: str, tmp_path: Path) -> None:
    save_network(tmp_path, model_type)
    _, module = adopted(tmp_path, "mean")
    before = run(module, random_texts(types=False))
    double = run(copy.deepcopy(module).double(), random_texts(types=False))
    assert (before.statistics.dtype, double.statistics.dtype) == (np.float32, np.float64)
    check(before, double)
    assert (run(module, random_texts(types=False)).statistics == before.statistics).all()


def test_rotary_positions_that_depend_on_the_batch_are_refused(tmp_path: Path) -> None:
    rope = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
    save_network(tmp_path, "gte", rope_parameters=rope)
    with pytest.raises(ExportError, match="rotary positions of the type dynamic, which depend on the longest text"):
        adopted(tmp_path, "mean")


def save_dense(folder: Path) -> Any:
    """A Dense layer as sentence-transformers saves it, with the activation that it takes for granted."""
    torch.manual_seed(1)
    linear = torch.nn.Linear(32, 8)
    (folder / "config.json").write_text(json.dumps({"in_features": 32, "out_features": 8, "bias": True}))
    save_file({f"linear.{name}": weight for name, weight in linear.state_dict().items()}, folder / "model.safetensors")
    return linear


@pytest.fixture
def network(tmp_path: Path) -> Path:
    save_network(tmp_path, "bert")
    return tmp_path


def weights_without(directory: Path, name: str) -> None:
    file = directory / "model.safetensors"
    weights = load_file(file)
    del weights[name]
    save_file(weights, file, {"format": "pt"})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: weights_without(path, "embeddings.LayerNorm.weight"), "1 are missing, for example embeddings.La"),
        (lambda path: change(path, intermediate_size=40), "are of another shape, for example encoder.layer.0"),
        (lambda path: change(path, num_hidden_layers=1), "16 are too many, for example encoder.layer.1"),
        (
            lambda path: change(path, architectures=["BertForSequenceClassification"]),
            "2 are missing, for example classifier.bias",
        ),
        (lambda path: change(path, hidden_size="32"), "cannot be loaded"),
        (lambda path: (path / "model.safetensors").write_bytes(b"version https://git-lfs"), "cannot be loaded"),
    ],
)
def test_weights_that_do_not_fit_are_refused_in_a_sentence(
    spoil: Callable[[Path], object], message: str, network: Path
) -> None:
    spoil(network)
    source = read_directory(network, None if "Classification" in (network / "config.json").read_text() else "mean")
    with pytest.raises(ExportError, match=message) as refused:
        load(source)
    assert "\n" not in str(refused.value)


def test_a_network_that_no_file_of_onnx_can_hold_is_refused(network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "LARGEST", 10_000)
    with pytest.raises(ExportError, match=r"has 0\.0 GB of weights in float32, and up to 2 GB can be adopted\.$"):
        load(read_directory(network, "mean"))


def test_weights_of_another_head_are_passed_over(tmp_path: Path) -> None:
    save_network(tmp_path, "roberta", classes=3)
    change(tmp_path, architectures=["RobertaModel"])
    assert list(load(read_directory(tmp_path, "mean")).outputs) == ["embedding", "norm_statistics"]


def test_a_dense_layer_of_another_width_is_refused(network: Path) -> None:
    save_modules(network, "Transformer", "Pooling", "Dense")
    write(network / "2_Dense" / "config.json", {"in_features": 16, "out_features": 8})
    (network / "2_Dense" / "model.safetensors").touch()
    with pytest.raises(ExportError, match="takes 16 numbers of 32"):
        load(read_directory(network))
