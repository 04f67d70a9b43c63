"""The shape of an encoder, as frozen pydantic models that serialize to JSON and to command-line options."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

NormKind = Literal["layer_norm", "rms_norm", "batch_norm", "none"]
Placement = Literal["post", "pre"]


class Architecture(BaseModel):
    """What a user chooses about an encoder, whatever its data."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    d_model: int = Field(128, ge=1, le=2**16)
    """Width of every token vector."""
    num_heads: int = Field(4, ge=1, le=2**16)
    """Attention heads; divides d_model."""
    num_layers: int = Field(2, ge=1, le=1000)
    """Blocks of self-attention and feed-forward."""
    d_ff: int = Field(256, ge=1, le=2**20)
    """Inner width of the feed-forward."""
    norm: NormKind = "layer_norm"
    """Which normalization every Add & Norm uses."""
    placement: Placement = "post"
    """post: Norm(x + Sublayer(x)); pre: x + Sublayer(Norm(x)) and a final norm."""
    residual: bool = True
    """Whether x itself is added; off only to study what the residual does."""
    eps: float = Field(1e-5, gt=0)
    """Added to the variance, under the root."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Probability, on the embedding, on every sublayer's output and before the head."""
    attention_dropout: float = Field(0.0, ge=0, lt=1)
    """Probability, on the attention weights."""

    @model_validator(mode="after")
    def heads_divide_width(self) -> Self:
        if self.d_model % self.num_heads:
            raise ValueError(f"d_model is {self.d_model}, expected a multiple of num_heads ({self.num_heads})")
        return self


class EncoderConfig(Architecture):
    """An architecture and the data it is for: everything that decides parameters and arithmetic."""

    num_classes: int = Field(ge=1)
    """Classes of the classification head."""
    max_tokens: int = Field(ge=1)
    """Longest sequence; the number of learned positions."""
    vocab_size: int = Field(0, ge=0)
    """Rows of the token embedding; 0 for float inputs."""
    num_features: int = Field(0, ge=0)
    """Width of a float input; 0 for token ids."""

    @model_validator(mode="after")
    def one_kind_of_input(self) -> Self:
        if (self.vocab_size > 0) == (self.num_features > 0):
            raise ValueError(
                f"vocab_size is {self.vocab_size} and num_features {self.num_features}, expected one of them positive"
            )
        return self
