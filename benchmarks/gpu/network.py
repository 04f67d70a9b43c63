"""The reference: the exported encoder written once more in plain PyTorch.

Its parameters have the names of model/network/encoder.py, so one set of weights serves graph and reference. In float64
on the CPU it says what is right; in the graph's own precision it says what PyTorch needs for the same work.

Post placement: Vaswani et al. 2017, arXiv:1706.03762, section 3.1. Pre: Xiong et al. 2020, arXiv:2002.04745.
"""

# P packs, S tokens per pack, R rows (sequences), D d_model, H heads, K head dimension, L norms, C classes

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class Shape:
    """What decides an encoder's parameters and arithmetic; field names as in model/network/config.py."""

    d_model: int
    num_heads: int
    num_layers: int
    d_ff: int
    num_classes: int
    max_tokens: int
    vocab_size: int
    placement: str = "post"
    eps: float = 1e-5


class Norm(nn.LayerNorm):
    """LayerNorm, Ba et al. 2016, arXiv:1607.06450, eq. 3."""

    def statistics(self, x_PSD: Tensor) -> Tensor:
        """Mean and 1 / sqrt(variance + eps) of every token, population variance [P, S, 2]."""
        variance_PS, mean_PS = torch.var_mean(x_PSD, dim=-1, correction=0)
        return torch.stack([mean_PS, torch.rsqrt(variance_PS + self.eps)], dim=-1)


class SelfAttention(nn.Module):
    """softmax(Q K^T / sqrt(K)) V in every head, among the tokens of one segment."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.num_heads = shape.num_heads
        self.query_key_value = nn.Linear(shape.d_model, 3 * shape.d_model)
        self.output = nn.Linear(shape.d_model, shape.d_model)

    def forward(self, x_PSD: Tensor, same_segment_P1SS: Tensor) -> Tensor:
        q_PHSK, k_PHSK, v_PHSK = (
            part_PSD.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for part_PSD in self.query_key_value(x_PSD).chunk(3, dim=-1)
        )
        mixed_PHSK = F.scaled_dot_product_attention(q_PHSK, k_PHSK, v_PHSK, same_segment_P1SS)
        return self.output(mixed_PHSK.transpose(1, 2).flatten(-2))


class FeedForward(nn.Module):
    """W2 gelu(W1 x)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.expand = nn.Linear(shape.d_model, shape.d_ff)
        self.contract = nn.Linear(shape.d_ff, shape.d_model)

    def forward(self, x_PSD: Tensor) -> Tensor:
        return self.contract(F.gelu(self.expand(x_PSD)))


class AddNorm(nn.Module):
    """post: Norm(x + Sublayer(x)); pre: x + Sublayer(Norm(x))."""

    def __init__(self, shape: Shape, sublayer: nn.Module) -> None:
        super().__init__()
        self.placement = shape.placement
        self.sublayer = sublayer
        self.norm = Norm(shape.d_model, shape.eps)

    def forward(self, x_PSD: Tensor, seen: list[Tensor], *context: Tensor) -> Tensor:
        """Appends to `seen` what enters the norm."""
        if self.placement == "pre":
            seen.append(x_PSD)
            return x_PSD + self.sublayer(self.norm(x_PSD), *context)
        seen.append(x_PSD + self.sublayer(x_PSD, *context))
        return self.norm(seen[-1])


class Block(nn.Module):
    """Self-attention, then feed-forward."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.attention = AddNorm(shape, SelfAttention(shape))
        self.feed_forward = AddNorm(shape, FeedForward(shape))


class Embeddings(nn.Module):
    """Token vectors plus learned positions; normalized in the post placement."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        # without an initialization, for which the meta device would load torch's compiler for seconds
        self.token = nn.Embedding.from_pretrained(torch.empty(shape.vocab_size, shape.d_model), freeze=False)
        self.position = nn.Embedding.from_pretrained(torch.empty(shape.max_tokens, shape.d_model), freeze=False)
        if shape.placement == "post":
            self.norm = Norm(shape.d_model, shape.eps)


class Network(nn.Module):
    """A Transformer encoder with a classification head over the mean of its tokens."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embeddings = Embeddings(shape)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.num_layers))
        if shape.placement == "pre":
            self.final_norm = Norm(shape.d_model, shape.eps)
        self.head = nn.Sequential(nn.Identity(), nn.Linear(shape.d_model, shape.num_classes))

    def forward(self, input_ids: Tensor, position_ids: Tensor, segment_ids: Tensor, pooling: Tensor) -> Tensor:
        """Logits [R, C]; arguments as the graph's inputs: ids [P, S] three times, pooling [R, P * S]."""
        return self.head(self.encode(input_ids, position_ids, segment_ids, pooling)[0])

    def outputs(
        self, input_ids: Tensor, position_ids: Tensor, segment_ids: Tensor, pooling: Tensor
    ) -> dict[str, Tensor]:
        """What the graph gives: logits [R, C], embedding [R, D], norm_statistics [P, S, 2L] (mean, 1/sigma in turn)."""
        embedding_RD, seen = self.encode(input_ids, position_ids, segment_ids, pooling)
        norms = [module for module in self.modules() if isinstance(module, Norm)]
        statistics = [norm.statistics(x_PSD) for norm, x_PSD in zip(norms, seen, strict=True)]
        return {
            "logits": self.head(embedding_RD),
            "embedding": embedding_RD,
            "norm_statistics": torch.cat(statistics, dim=-1),
        }

    def encode(
        self, input_ids: Tensor, position_ids: Tensor, segment_ids: Tensor, pooling: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """The embedding [R, D], and what enters each norm [P, S, D], in network order."""
        seen: list[Tensor] = []
        same_segment_P1SS = (segment_ids.unsqueeze(1) == segment_ids.unsqueeze(2)).unsqueeze(1)
        x_PSD = self.embeddings.token(input_ids) + self.embeddings.position(position_ids)
        if self.shape.placement == "post":
            seen.append(x_PSD)
            x_PSD = self.embeddings.norm(x_PSD)
        for block in self.blocks:
            assert isinstance(block, Block)
            x_PSD = block.attention(x_PSD, seen, same_segment_P1SS)
            x_PSD = block.feed_forward(x_PSD, seen)
        if self.shape.placement == "pre":
            seen.append(x_PSD)
            x_PSD = self.final_norm(x_PSD)
        return pooling.to(x_PSD.dtype) @ x_PSD.flatten(0, 1), seen
