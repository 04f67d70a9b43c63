import pytest
import torch
from torch import Tensor, nn

from model.network.norms import BatchNorm, NormStatistics, make_norm, norm_kind

KINDS = ("layer_norm", "rms_norm", "batch_norm", "none")


def random_input(packs: int = 3, tokens: int = 5, width: int = 8, seed: int = 0) -> tuple[Tensor, Tensor]:
    """An input and a mask with some padding."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(packs, tokens, width, generator=generator) * 3 + 1
    valid = (torch.rand(packs, tokens, 1, generator=generator) > 0.3).float()
    valid[0, 0] = valid[-1, -1] = 1
    return x, valid


def randomized(kind: str, width: int = 8) -> nn.Module:
    torch.manual_seed(1)
    norm = make_norm(kind, width, 1e-5)
    for parameter in norm.parameters():
        nn.init.normal_(parameter, 1, 0.3)
    return norm


@pytest.mark.parametrize("kind", KINDS)
def test_norm_reports_mean_and_inverse_deviation_of_every_token(kind: str) -> None:
    x, valid = random_input()
    statistics: NormStatistics = randomized(kind)(x, valid)[1]
    wide = x.double()
    torch.testing.assert_close(statistics.mean.double(), wide.mean(-1, keepdim=True), rtol=1e-6, atol=1e-6)
    expected = 1 / (wide.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(statistics.inv_std.double(), expected, rtol=1e-5, atol=0)


def test_layer_norm_matches_torch() -> None:
    x, valid = random_input()
    norm = randomized("layer_norm")
    reference = nn.LayerNorm(8, 1e-5)
    reference.load_state_dict(norm.state_dict())
    torch.testing.assert_close(norm(x, valid)[0], reference(x))


def test_rms_norm_matches_torch() -> None:
    x, valid = random_input()
    norm = randomized("rms_norm")
    reference = nn.RMSNorm(8, 1e-5)
    reference.load_state_dict(norm.state_dict())
    torch.testing.assert_close(norm(x, valid)[0], reference(x))


@pytest.mark.parametrize("tokens", [5, 8])  # 8: as many tokens as features, where a wrong axis goes unnoticed
def test_batch_norm_matches_batch_norm_1d_on_the_packed_valid_tokens(tokens: int) -> None:
    norm, reference = randomized("batch_norm"), nn.BatchNorm1d(8, 1e-5)
    reference.load_state_dict(norm.state_dict(), strict=False)
    norm.train(), reference.train()
    for seed in range(3):
        x, valid = random_input(tokens=tokens, seed=seed)
        chosen = valid.squeeze(-1).bool()
        torch.testing.assert_close(norm(x, valid)[0][chosen], reference(x[chosen]), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(norm.running_mean, reference.running_mean)
    torch.testing.assert_close(norm.running_var, reference.running_var)
    norm.eval(), reference.eval()
    torch.testing.assert_close(norm(x, valid)[0][chosen], reference(x[chosen]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_never_sees_padding(training: bool) -> None:
    x, valid = random_input()
    polluted = torch.where(valid.bool(), x, torch.full_like(x, 1e4))
    outputs = []
    for batch in (x, polluted):
        norm = randomized("batch_norm").train(training)
        y, statistics = norm(batch, valid)
        outputs.append((y[valid.squeeze(-1).bool()], statistics.feature_moments, norm.running_mean, norm.running_var))
    for clean, dirty in zip(*outputs, strict=True):
        torch.testing.assert_close(clean, dirty)


def test_batch_norm_reports_live_moments_of_every_feature() -> None:
    x, valid = random_input()
    moments = randomized("batch_norm").eval()(x, valid)[1].feature_moments
    tokens = x[valid.squeeze(-1).bool()].double()
    expected = torch.stack([tokens.mean(0), tokens.var(0, correction=0)])
    torch.testing.assert_close(moments.double(), expected, rtol=1e-5, atol=1e-6)


def test_batch_norm_refuses_to_train_on_one_token() -> None:
    with pytest.raises(ValueError, match="at least two valid tokens"):
        BatchNorm(4, 1e-5).train()(torch.ones(1, 1, 4), torch.ones(1, 1, 1))


@pytest.mark.parametrize("kind", KINDS)
def test_norm_kind_inverts_make_norm(kind: str) -> None:
    assert norm_kind(make_norm(kind, 4, 1e-5)) == kind
