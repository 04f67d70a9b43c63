import pytest
import torch
from torch import nn

from model.network.config import EncoderConfig
from model.network.layers import AddNorm, Block

D_MODEL, HEADS, D_FF = 16, 4, 24


def config(**changes: object) -> EncoderConfig:
    shape = {"num_classes": 2, "max_tokens": 9, "vocab_size": 9, "d_model": D_MODEL, "num_heads": HEADS, "d_ff": D_FF}
    return EncoderConfig.model_validate(shape | {"dropout": 0.0} | changes)


def reference_layer(block: Block, placement: str) -> nn.TransformerEncoderLayer:
    """PyTorch's own layer with the weights of `block`."""
    layer = nn.TransformerEncoderLayer(
        D_MODEL, HEADS, D_FF, dropout=0.0, activation="gelu", batch_first=True, norm_first=placement == "pre"
    )
    attention, feed_forward = block.attention, block.feed_forward
    pairs = [
        (layer.self_attn.in_proj_weight, attention.sublayer.query_key_value.weight),
        (layer.self_attn.in_proj_bias, attention.sublayer.query_key_value.bias),
        (layer.self_attn.out_proj.weight, attention.sublayer.output.weight),
        (layer.self_attn.out_proj.bias, attention.sublayer.output.bias),
        (layer.linear1.weight, feed_forward.sublayer.expand.weight),
        (layer.linear1.bias, feed_forward.sublayer.expand.bias),
        (layer.linear2.weight, feed_forward.sublayer.contract.weight),
        (layer.linear2.bias, feed_forward.sublayer.contract.bias),
        (layer.norm1.weight, attention.norm.weight),
        (layer.norm1.bias, attention.norm.bias),
        (layer.norm2.weight, feed_forward.norm.weight),
        (layer.norm2.bias, feed_forward.norm.bias),
    ]
    with torch.no_grad():
        for theirs, ours in pairs:
            theirs.copy_(ours)
    return layer


@pytest.mark.parametrize("placement", ["post", "pre"])
@pytest.mark.parametrize("training", [False, True])
def test_block_matches_transformer_encoder_layer(placement: str, training: bool) -> None:
    torch.manual_seed(0)
    block = Block(config(placement=placement))
    for parameter in block.parameters():
        nn.init.normal_(parameter, 0.1, 0.3)
    layer = reference_layer(block, placement).train(training)
    x = torch.randn(3, 7, D_MODEL)
    lengths = torch.tensor([7, 4, 1])
    valid = torch.arange(7) < lengths[:, None]
    mask = (valid[:, None, :] == valid[:, :, None]).unsqueeze(1)
    found = block(x, valid.unsqueeze(-1).float(), mask)[0]
    expected = layer(x, src_key_padding_mask=~valid)
    torch.testing.assert_close(found[valid], expected[valid], rtol=0, atol=1e-5)


@pytest.mark.parametrize("placement", ["post", "pre"])
def test_residual_can_be_switched_off(placement: str) -> None:
    torch.manual_seed(0)
    with_residual = AddNorm(config(placement=placement, norm="none"), nn.Linear(D_MODEL, D_MODEL))
    without = AddNorm(config(placement=placement, norm="none", residual=False), nn.Linear(D_MODEL, D_MODEL))
    without.load_state_dict(with_residual.state_dict())
    x, valid = torch.randn(2, 3, D_MODEL), torch.ones(2, 3, 1)
    torch.testing.assert_close(with_residual(x, valid)[0], x + without(x, valid)[0])


def test_dropout_touches_the_update_and_never_the_residual() -> None:
    torch.manual_seed(0)
    add_norm = AddNorm(config(norm="none", dropout=0.99), nn.Identity()).train()
    x = torch.randn(50, 4, D_MODEL)
    update = (add_norm(x, torch.ones(50, 4, 1))[0] - x).abs()
    assert 0.95 < (update < 1e-6).float().mean() < 1
