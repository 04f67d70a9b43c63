"""Settings and weights with which a network cannot run are refused; those that change no result are set aside."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from model.pretrained.load import load, load_with_new_head, make_with_head
from model.pretrained.source import read_directory, read_encoder
from runtime.errors import ExportError
from tests.model.pretrained.networks import (
    adopted,
    change,
    check,
    random_texts,
    run,
    save_modules,
    save_network,
    write,
)


@pytest.fixture
def network(tmp_path: Path) -> Path:
    save_network(tmp_path, "bert")
    return tmp_path


def spoil(file: Path, name: str, value: float) -> None:
    """Sets one of the weights."""
    weights = load_file(file)
    weights[name].view(-1)[-1] = value
    save_file(weights, file, {"format": "pt"})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_weights_that_are_not_finite_are_refused_by_name(value: float, network: Path) -> None:
    name = "encoder.layer.1.attention.self.query.weight"
    spoil(network / "model.safetensors", name, value)
    with pytest.raises(ExportError, match=rf"has NaN or infinite numbers in {name}, and all weights must be finite"):
        adopted(network, "mean")


def save_dense(directory: Path, out_features: int) -> Path:
    save_modules(directory, "Transformer", "Pooling", "Dense", pooling_mode="mean")
    write(directory / "2_Dense" / "config.json", {"in_features": 32, "out_features": out_features})
    file = directory / "2_Dense" / "model.safetensors"
    save_file({"linear.weight": torch.ones(4, 32), "linear.bias": torch.ones(4)}, file)
    return file


def test_a_dense_layer_that_is_not_finite_is_refused(network: Path) -> None:
    spoil(save_dense(network, 4), "linear.bias", math.nan)
    with pytest.raises(ExportError, match=r"2_Dense/model.safetensors has NaN or infinite numbers in bias"):
        adopted(network)


def test_a_dense_layer_that_no_memory_holds_is_refused(network: Path) -> None:
    save_dense(network, 10**15)
    with pytest.raises(ExportError, match=r"2_Dense/model.safetensors cannot be loaded \(RuntimeError: .*\): download"):
        adopted(network)


@pytest.mark.parametrize("settings", [{"chunk_size_feed_forward": 7}, {"return_dict": False}], ids=str)
@pytest.mark.parametrize("make", ["load", "load_with_new_head", "make_with_head"])
def test_settings_that_change_no_result_are_set_aside(make: str, settings: dict[str, Any], network: Path) -> None:
    loads: dict[str, Callable[[], Any]] = {
        "load": lambda: load(read_directory(network, "mean")),
        "load_with_new_head": lambda: load_with_new_head(read_encoder(network, ["one", "two"])),
        "make_with_head": lambda: make_with_head(read_encoder(network, ["one", "two"])),
    }
    torch.manual_seed(0)
    expected = run(loads[make](), random_texts(types=False))
    change(network, **settings)
    torch.manual_seed(0)
    check(run(loads[make](), random_texts(types=False)), expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_attention_heads": -1}, r"cannot run as its config.json describes it \(RuntimeError: "),
        ({"hidden_dropout_prob": math.nan}, r"cannot run as its config.json describes it \(RuntimeError: "),
        ({"layer_norm_eps": math.nan}, r"^layer_norm_eps, .* is not usable, embeddings.LayerNorm has nan: a small"),
        ({"layer_norm_eps": math.inf}, r"is not usable, embeddings.LayerNorm has inf: a small number above 0"),
        ({"layer_norm_eps": 0.0}, r"is not usable, embeddings.LayerNorm has 0\.0: a small number above 0"),
        ({"layer_norm_eps": -1.0}, r"is not usable, embeddings.LayerNorm has -1\.0: a small number above 0"),
    ],
    ids=str,
)
def test_a_network_that_cannot_run_is_refused_in_a_sentence(
    settings: dict[str, float], message: str, network: Path
) -> None:
    change(network, **settings)
    with pytest.raises(ExportError, match=message) as refused:
        adopted(network, "mean")
    assert "\n" not in str(refused.value)
