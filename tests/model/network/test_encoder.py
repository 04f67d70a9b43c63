import numpy as np
import pytest
import torch
from torch import Tensor, nn

from export.graph import as_tensors
from model.network.config import EncoderConfig
from model.network.encoder import Encoder, count_parameters
from runtime.graph.packing import Tokens, pack

KINDS = ("layer_norm", "rms_norm", "batch_norm", "none")


def make(norm: str = "layer_norm", placement: str = "post", features: int = 0) -> Encoder:
    torch.manual_seed(0)
    config = EncoderConfig.model_validate(
        {"num_classes": 5, "max_tokens": 20, "d_model": 16, "num_heads": 2, "d_ff": 32, "norm": norm}
        | {"placement": placement, "num_features": features, "vocab_size": 0 if features else 30}
    )
    encoder = Encoder(config).eval()
    for parameter in encoder.parameters():
        if parameter.dim() == 1:
            nn.init.normal_(parameter, 0.5, 0.3)
    return encoder


def sequences(lengths: list[int], features: int = 0) -> list[Tokens]:
    rng = np.random.default_rng(0)
    if features:
        return [rng.standard_normal((length, features)).astype(np.float32) for length in lengths]
    return [rng.integers(0, 30, length) for length in lengths]


def logits(encoder: Encoder, batch: list[Tokens], width: int = 40) -> Tensor:
    with torch.inference_mode():
        return encoder(*as_tensors(pack(batch, width))).logits


@pytest.mark.parametrize("norm", KINDS)
@pytest.mark.parametrize("placement", ["post", "pre"])
@pytest.mark.parametrize("features", [0, 3])
def test_answer_does_not_change_with_padding_or_neighbours(norm: str, placement: str, features: int) -> None:
    encoder, batch = make(norm, placement, features), sequences([5, 1, 20, 7, 12], features)
    together = logits(encoder, batch)
    alone = torch.cat([logits(encoder, [sequence], width=1) for sequence in batch])
    padded = torch.cat([logits(encoder, [sequence], width=64) for sequence in batch])
    wide = logits(encoder, batch, width=128)
    for other in (alone, padded, wide):
        torch.testing.assert_close(together, other, rtol=0, atol=1e-5)


@pytest.mark.parametrize("norm", KINDS)
def test_padding_value_does_not_matter(norm: str) -> None:
    encoder, batch = make(norm), pack(sequences([5, 20, 7]), 24)
    values, position_ids, segment_ids, pooling = as_tensors(batch)
    other = torch.where(segment_ids == 0, 7, values)
    assert not torch.equal(values, other)
    with torch.inference_mode():
        found = encoder(other, position_ids, segment_ids, pooling).logits
        expected = encoder(values, position_ids, segment_ids, pooling).logits
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("norm", KINDS)
def test_training_step_does_not_see_padding(norm: str) -> None:
    batch = sequences([5, 11, 7])
    gradients = []
    for width in (12, 23, 60):
        encoder = make(norm).train()
        for module in encoder.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        encoder(*as_tensors(pack(batch, width))).logits.square().sum().backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in encoder.parameters()]))
    for other in gradients[1:]:
        torch.testing.assert_close(gradients[0], other, rtol=1e-4, atol=1e-4)


def test_norms_are_named_in_network_order() -> None:
    post = [name for name, _ in make(placement="post").norms()]
    assert post[:3] == ["embeddings.norm", "blocks.0.attention.norm", "blocks.0.feed_forward.norm"]
    pre = [name for name, _ in make(placement="pre").norms()]
    assert pre[0] == "blocks.0.attention.norm" and pre[-1] == "final_norm"


def test_statistics_are_one_entry_per_norm() -> None:
    for placement in ("post", "pre"):
        encoder = make(placement=placement)
        output = encoder(*as_tensors(pack(sequences([3, 4]))))
        assert len(output.statistics) == len(encoder.norms())


def test_position_matters() -> None:
    encoder = make()
    tokens = np.array([1, 2, 3])
    assert (logits(encoder, [tokens]) - logits(encoder, [tokens[::-1].copy()])).abs().max() > 1e-3


def test_count_parameters_counts_all() -> None:
    assert count_parameters(nn.Linear(3, 4)) == 16


def test_config_refuses_what_cannot_be_built() -> None:
    good = {"num_classes": 2, "max_tokens": 4, "vocab_size": 5}
    for bad, word in (
        ({"d_model": 30}, "multiple of num_heads"),
        ({"num_features": 2}, "one of them positive"),
        ({"norm": "group_norm"}, "layer_norm"),
        ({"placement": "middle"}, "post"),
        ({"eps": 0}, "greater than 0"),
    ):
        with pytest.raises(ValueError, match=word):
            EncoderConfig.model_validate(good | bad)
