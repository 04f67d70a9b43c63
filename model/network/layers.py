"""The parts of an encoder block: self-attention, feed-forward, and the Add & Norm around each.

Post placement: Vaswani et al. 2017, arXiv:1706.03762, section 3.1. Pre: Xiong et al. 2020, arXiv:2002.04745.
"""

# P packs, S tokens per pack, D d_model, H heads, K head dimension

from torch import Tensor, nn
from torch.nn import functional as F

from model.network.config import EncoderConfig
from model.network.norms import NormStatistics, make_norm


class SelfAttention(nn.Module):
    """softmax(Q K^T / sqrt(K)) V in every head, among the tokens of one segment."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.num_heads, self.attention_dropout = config.num_heads, config.attention_dropout
        self.query_key_value = nn.Linear(config.d_model, 3 * config.d_model)
        self.output = nn.Linear(config.d_model, config.d_model)

    def forward(self, x_PSD: Tensor, same_segment_P1SS: Tensor) -> Tensor:
        q_PHSK, k_PHSK, v_PHSK = (
            part_PSD.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for part_PSD in self.query_key_value(x_PSD).chunk(3, dim=-1)
        )
        dropout = self.attention_dropout if self.training else 0.0
        mixed_PHSK = F.scaled_dot_product_attention(q_PHSK, k_PHSK, v_PHSK, same_segment_P1SS, dropout)
        return self.output(mixed_PHSK.transpose(1, 2).flatten(-2))


class FeedForward(nn.Module):
    """W2 gelu(W1 x): the same two-layer network at every position."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.expand = nn.Linear(config.d_model, config.d_ff)
        self.contract = nn.Linear(config.d_ff, config.d_model)

    def forward(self, x_PSD: Tensor) -> Tensor:
        return self.contract(F.gelu(self.expand(x_PSD)))


class Add(nn.Module):
    """x + Dropout(F(x)): what a sublayer found is added to what it read."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.residual = config.residual
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_PSD: Tensor, update_PSD: Tensor) -> Tensor:
        update_PSD = self.dropout(update_PSD)
        return x_PSD + update_PSD if self.residual else update_PSD


class AddNorm(nn.Module):
    """post: Norm(x + Sublayer(x)); pre: x + Sublayer(Norm(x)).

    Args:
        sublayer: maps [P, S, D] (and what else `forward` is given) to [P, S, D].
    """

    def __init__(self, config: EncoderConfig, sublayer: nn.Module) -> None:
        super().__init__()
        self.placement = config.placement
        self.sublayer = sublayer
        self.add = Add(config)
        self.norm = make_norm(config.norm, config.d_model, config.eps)

    def forward(self, x_PSD: Tensor, valid_PS1: Tensor, *context: Tensor) -> tuple[Tensor, NormStatistics]:
        if self.placement == "post":
            return self.norm(self.add(x_PSD, self.sublayer(x_PSD, *context)), valid_PS1)
        y_PSD, statistics = self.norm(x_PSD, valid_PS1)
        return self.add(x_PSD, self.sublayer(y_PSD, *context)), statistics


class Block(nn.Module):
    """Self-attention, then feed-forward, each inside its Add & Norm."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.attention = AddNorm(config, SelfAttention(config))
        self.feed_forward = AddNorm(config, FeedForward(config))

    def forward(
        self, x_PSD: Tensor, valid_PS1: Tensor, same_segment_P1SS: Tensor
    ) -> tuple[Tensor, list[NormStatistics]]:
        x_PSD, attention = self.attention(x_PSD, valid_PS1, same_segment_P1SS)
        x_PSD, feed_forward = self.feed_forward(x_PSD, valid_PS1)
        return x_PSD, [attention, feed_forward]
