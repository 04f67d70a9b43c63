"""The encoder: embedding, Add & Norm blocks, pooling, classification head.

It takes packed batches (runtime/graph/packing.py) in training as in serving, so both compute the same thing.
"""

# P packs, S tokens per pack, R rows (sequences), D d_model, C classes, L norms

from typing import NamedTuple

from torch import Tensor, nn

from model.network.config import EncoderConfig
from model.network.layers import Block
from model.network.norms import BatchNorm, LayerNorm, NoNorm, Norm, NormStatistics, RMSNorm, make_norm


class EncoderOutput(NamedTuple):
    """What one forward pass gives.

    Attributes:
        logits: [R, C].
        embedding: pooled output of the last block [R, D].
        statistics: one entry per norm, in network order.
    """

    logits: Tensor
    embedding: Tensor
    statistics: list[NormStatistics]


class Embeddings(nn.Module):
    """Token vectors (or a projection of the features) plus learned positions; normalized in the post placement."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.token: nn.Module = (
            nn.Embedding(config.vocab_size, config.d_model)
            if config.vocab_size
            else nn.Linear(config.num_features, config.d_model)
        )
        self.position = nn.Embedding(config.max_tokens, config.d_model)
        if config.placement == "post":
            self.norm = make_norm(config.norm, config.d_model, config.eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, values: Tensor, position_ids_PS: Tensor, valid_PS1: Tensor
    ) -> tuple[Tensor, list[NormStatistics]]:
        x_PSD = self.token(values) + self.position(position_ids_PS)
        statistics = []
        if hasattr(self, "norm"):
            x_PSD, norm_statistics = self.norm(x_PSD, valid_PS1)
            statistics.append(norm_statistics)
        return self.dropout(x_PSD), statistics


class Encoder(nn.Module):
    """A Transformer encoder with a classification head over the mean of its tokens."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        if config.placement == "pre":
            self.final_norm = make_norm(config.norm, config.d_model, config.eps)
        self.head = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(config.d_model, config.num_classes))
        self.apply(initialize)

    def forward(
        self, values: Tensor, position_ids_PS: Tensor, segment_ids_PS: Tensor, pooling: Tensor
    ) -> EncoderOutput:
        """Classifies R packed sequences.

        Args:
            values: token ids [P, S], or features [P, S, F].
            position_ids_PS: position of every token in its sequence.
            segment_ids_PS: which sequence a token belongs to; 0 for none.
            pooling: [R, P * S], the weights that average each sequence's tokens.
        """
        valid_PS1 = (segment_ids_PS != 0).unsqueeze(-1).to(pooling.dtype)
        same_segment_P1SS = (segment_ids_PS.unsqueeze(1) == segment_ids_PS.unsqueeze(2)).unsqueeze(1)
        x_PSD, statistics = self.embeddings(values, position_ids_PS, valid_PS1)
        for block in self.blocks:
            x_PSD, block_statistics = block(x_PSD, valid_PS1, same_segment_P1SS)
            statistics += block_statistics
        if hasattr(self, "final_norm"):
            x_PSD, final = self.final_norm(x_PSD, valid_PS1)
            statistics.append(final)
        embedding_RD = pooling @ x_PSD.flatten(0, 1)
        return EncoderOutput(self.head(embedding_RD), embedding_RD, statistics)

    def norms(self) -> list[tuple[str, Norm]]:
        """Name and module of every norm, in network order."""
        return [
            (name, m) for name, m in self.named_modules() if isinstance(m, LayerNorm | RMSNorm | BatchNorm | NoNorm)
        ]


def initialize(module: nn.Module) -> None:
    """Xavier for projections, N(0, 1/D) for embeddings, zero biases."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=module.embedding_dim**-0.5)


def count_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
