"""How each family of encoders takes a packed batch, and how its classifiers go on from pooled rows.

Attention must stay inside a segment. Families differ in the form of mask that they hand on untouched, in where
positions begin, and in their heads; this table holds the differences. It needs no torch: a directory is read by it.
"""
# mypy: no-warn-return-any
# (what transformers computes is Any)

# P packs, S tokens per pack, R rows (sequences), D d_model, C classes

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from runtime.errors import ExportError

if TYPE_CHECKING:  # annotations only: reading a directory must not load torch
    from torch import Tensor

Attention = Literal["sdpa", "eager"]


class Packed(NamedTuple):
    """A packed batch as a family takes it: all [P, S]; positions have the family's offset."""

    input_ids: "Tensor"
    position_ids: "Tensor"
    segment_ids: "Tensor"
    type_ids: "Tensor"

    def same_segment(self) -> "Tensor":
        """[P, S, S], true where two tokens are of one segment. Padding sees itself: no row is masked whole."""
        return self.segment_ids.unsqueeze(1) == self.segment_ids.unsqueeze(2)


def masked(encoder: Any, packed: Packed) -> "Tensor":
    """A boolean mask with a dimension for heads is handed on as it is, if attention is sdpa."""
    mask_P1SS = packed.same_segment().unsqueeze(1)
    return encoder(packed.input_ids, mask_P1SS, position_ids=packed.position_ids).last_hidden_state


def masked_with_types(encoder: Any, packed: Packed) -> "Tensor":
    mask_P1SS = packed.same_segment().unsqueeze(1)
    types = {"token_type_ids": packed.type_ids, "position_ids": packed.position_ids}
    return encoder(packed.input_ids, mask_P1SS, **types).last_hidden_state


def added_mask(encoder: Any, packed: Packed) -> "Tensor":
    """Eager attention adds the mask to its scores. Positions by index will do for its bias: segments lie contiguous."""
    different_P1SS = ~packed.same_segment().unsqueeze(1)
    mask_P1SS = different_P1SS.to(encoder.dtype).masked_fill(different_P1SS, -1e30)
    return encoder(packed.input_ids, mask_P1SS, position_ids=packed.position_ids).last_hidden_state


def masked_in_windows(encoder: Any, packed: Packed) -> "Tensor":
    """A single mask would replace that of the sliding windows too: both are given by name."""
    same_PSS = packed.same_segment()
    position_PS = packed.position_ids
    distance_PSS = (position_PS.unsqueeze(1) - position_PS.unsqueeze(2)).abs()
    near_PSS = same_PSS & (distance_PSS <= encoder.config.sliding_window)
    masks = {"full_attention": same_PSS.unsqueeze(1), "sliding_attention": near_PSS.unsqueeze(1)}
    return encoder(packed.input_ids, masks, position_ids=position_PS).last_hidden_state


def masked_layers(encoder: Any, packed: Packed) -> "Tensor":
    """The embeddings multiply by a mask [P, S] only, so the block mask goes to the layers alone."""
    types = {"token_type_ids": packed.type_ids, "position_ids": packed.position_ids}
    hidden_PSD = encoder.embeddings(packed.input_ids, **types)
    return encoder.encoder(hidden_PSD, packed.same_segment(), output_hidden_states=False).last_hidden_state


# Heads. Those that take the first token of [R, S, D] are given rows of one token.


def pooler_in_encoder(model: Any, pooled_RD: "Tensor") -> "Tensor":
    return model.classifier(model.base_model.pooler(pooled_RD.unsqueeze(1)))


def albert_head(model: Any, pooled_RD: "Tensor") -> "Tensor":
    return model.classifier(model.base_model.pooler_activation(model.base_model.pooler(pooled_RD)))


def first_token_head(model: Any, pooled_RD: "Tensor") -> "Tensor":
    return model.classifier(pooled_RD.unsqueeze(1))


def distilbert_head(model: Any, pooled_RD: "Tensor") -> "Tensor":
    return model.classifier(model.pre_classifier(pooled_RD).relu())


def modernbert_head(model: Any, pooled_RD: "Tensor") -> "Tensor":
    return model.classifier(model.head(pooled_RD))


def deberta_head(model: Any, pooled_RD: "Tensor") -> "Tensor":
    return model.classifier(model.pooler(pooled_RD.unsqueeze(1)))


def eurobert_head(model: Any, pooled_RD: "Tensor") -> "Tensor":
    return model.classifier(model.activation(model.dense(pooled_RD)))


@dataclass(frozen=True, slots=True)
class Family:
    """What sets a family apart.

    Attributes:
        encode: last hidden states [P, S, D], of the encoder and a packed batch.
        head: logits [R, C], of the classification model and pooled rows [R, D].
        placement: of its norms.
        attention: the implementation that takes the mask of `encode`.
        position_offset: the position of a text's first token; "padding": RoBERTa's, one behind the padding token's id.
        types: default of `type_vocab_size`; None if the family takes no token types.
        pooler: whether the bare encoder has a pooler that it can be loaded without.
        pooling: the classifier's pooling where config.json does not say; None: always the first token.
        settings: what config.json must say, where it says anything.
    """

    encode: Callable[[Any, Packed], "Tensor"]
    head: Callable[[Any, "Tensor"], "Tensor"]
    placement: Literal["post", "pre"] = "post"
    attention: Attention = "sdpa"
    position_offset: int | Literal["padding"] = 0
    types: int | None = None
    pooler: bool = False
    pooling: str | None = None
    settings: tuple[tuple[str, Any], ...] = ()

    def first_position(self, config: Mapping[str, Any]) -> int:
        if self.position_offset != "padding":
            return self.position_offset
        padding = config.get("pad_token_id")
        return (1 if padding is None else int(padding)) + 1


ABSOLUTE = (("position_embedding_type", "absolute"), ("is_decoder", False))
ROBERTA = Family(
    masked_with_types, first_token_head, position_offset="padding", types=2, pooler=True, settings=ABSOLUTE
)
FAMILIES = {
    "bert": Family(masked_with_types, pooler_in_encoder, types=2, pooler=True, settings=ABSOLUTE),
    "electra": Family(masked_with_types, first_token_head, types=2, settings=ABSOLUTE),
    "albert": Family(masked_with_types, albert_head, types=2, pooler=True, settings=ABSOLUTE),
    "distilbert": Family(masked, distilbert_head),
    "roberta": ROBERTA,
    "xlm-roberta": ROBERTA,
    "camembert": ROBERTA,
    "mpnet": Family(added_mask, first_token_head, attention="eager", position_offset=2, pooler=True),
    # a convolution would mix neighbouring segments
    "deberta-v2": Family(masked_layers, deberta_head, attention="eager", types=0, settings=(("conv_kernel_size", 0),)),
    "modernbert": Family(masked_in_windows, modernbert_head, placement="pre", pooling="cls"),
    "eurobert": Family(masked, eurobert_head, placement="pre", pooling="late"),
    "nomic_bert": Family(masked_with_types, pooler_in_encoder, types=2, pooler=True),
    "gte": Family(masked_with_types, pooler_in_encoder, types=1, pooler=True),
    "jina_embeddings_v3": Family(masked_with_types, first_token_head, types=1, pooler=True),
}


def family_of(model_type: str) -> Family:
    """The family of this `model_type`.

    Raises:
        ExportError: it is not in the table.
    """
    if model_type not in FAMILIES:
        raise ExportError(
            f"Encoders of the type {model_type or 'that config.json leaves out'} cannot be packed, "
            f"only {', '.join(FAMILIES)}: export it to ONNX and adopt that file instead."
        )
    return FAMILIES[model_type]
