"""Layers learn at rates of their own: the lower, the less."""

from pathlib import Path

import pytest
import torch

from model.finetuning.checkpoint import FineTunedEncoder
from model.pretrained.load import load_with_new_head
from model.pretrained.source import read_encoder
from model.training.optimizer import averaging, make_optimizer
from model.training.recipe import FineTuning
from tests.model.pretrained.networks import save_network


@pytest.fixture
def model(tmp_path: Path) -> FineTunedEncoder:
    save_network(tmp_path, "bert")
    return FineTunedEncoder(load_with_new_head(read_encoder(tmp_path, ["one", "two"])))


def scales(model: FineTunedEncoder, schedule: FineTuning) -> dict[str, float]:
    groups = make_optimizer(model, schedule).param_groups
    by_weight = {id(weight): group["scale"] for group in groups for weight in group["params"]}
    return {name: by_weight[id(weight)] for name, weight in model.named_parameters() if id(weight) in by_weight}


def test_rates_decay_from_the_head_to_the_embeddings(model: FineTunedEncoder) -> None:
    found = scales(model, FineTuning(layer_decay=0.5, head_rate=4.0))
    assert found["network.head.weight"] == 4.0
    assert found["network.model.encoder.layer.1.output.dense.weight"] == 1.0
    assert found["network.model.encoder.layer.0.output.LayerNorm.bias"] == 0.5
    assert found["network.model.embeddings.word_embeddings.weight"] == 0.25


def test_frozen_layers_do_not_learn(model: FineTunedEncoder) -> None:
    found = scales(model, FineTuning(frozen_layers=1))
    assert not any("embeddings" in name or "layer.0." in name for name in found)
    assert not model.network.model.embeddings.word_embeddings.weight.requires_grad
    assert model.network.model.encoder.layer[1].output.dense.weight.requires_grad


@pytest.mark.parametrize(
    ("model_type", "shared"),
    [("mpnet", ["relative_attention_bias"]), ("deberta-v2", ["encoder.LayerNorm", "encoder.rel_embeddings"])],
)
def test_what_all_layers_use_learns_as_the_embeddings_do(model_type: str, shared: list[str], tmp_path: Path) -> None:
    save_network(tmp_path, model_type)
    model = FineTunedEncoder(load_with_new_head(read_encoder(tmp_path, ["one", "two"])))
    found = scales(model, FineTuning(layer_decay=0.5, head_rate=4.0))
    for part in shared:
        own = [scale for name, scale in found.items() if part in name]
        assert own and set(own) == {0.25}
    assert {name.split(".")[1] for name, scale in found.items() if scale == 4.0} == {"head"}
    assert not any(part in name for part in shared for name in scales(model, FineTuning(frozen_layers=1)))


def test_whole_numbers_are_taken_over_by_the_average() -> None:
    averages, weights = [torch.zeros(2, dtype=torch.int64)], [torch.tensor([3, 4])]
    averaging(0.9)(averages, weights, torch.tensor(5))
    assert averages[0].tolist() == [3, 4]
