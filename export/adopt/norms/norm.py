"""What the norms of a foreign graph are, and which of them cannot be observed."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import onnx_ir as ir

Kind = Literal["layer_norm", "rms_norm"]
DECOMPOSED, UNKNOWN = "decomposed", "unknown"

NAMED: dict[str, tuple[Kind, float]] = {  # the kind of an operator, and its eps where none is given
    "LayerNormalization": ("layer_norm", 1e-5),
    "SkipLayerNormalization": ("layer_norm", 1e-12),
    "EmbedLayerNormalization": ("layer_norm", 1e-12),
    "RMSNormalization": ("rms_norm", 1e-5),
    "SimplifiedLayerNormalization": ("rms_norm", 1e-5),
    "SkipSimplifiedLayerNormalization": ("rms_norm", 1e-12),
}
SCALE = {"SkipLayerNormalization": 2, "SkipSimplifiedLayerNormalization": 2, "EmbedLayerNormalization": 5}  # else 1

POSITIONS = "it normalizes over positions, not over the features of one token"
CENTERED = "what it normalizes was centered before, and its mean is lost"
NOT_KNOWN = "it is written in a way that is not known"
HIDDEN = "this operator does not give out what it normalizes"
OTHERS = {
    "BatchNormalization": "it normalizes by fixed moments from training, not by those of a token",
    "InstanceNormalization": POSITIONS,
    "GroupNormalization": POSITIONS,
    "GroupNorm": POSITIONS,
    "SkipGroupNorm": POSITIONS,
    "MeanVarianceNormalization": POSITIONS,
    "QEmbedLayerNormalization": HIDDEN,
    "QOrderedLayerNormalization": HIDDEN,
}


class Match(NamedTuple):
    """How a norm is written in a graph.

    Attributes:
        written: the operator's name, `decomposed`, or `unknown` of one that is only noticed (norms/unknown.py).
        node: the operator; of a decomposed norm, the square root; of an unknown one, what divides.
        x: what it normalizes; of Skip- and EmbedLayerNormalization, a value of the same shape.
        axis: the first normalized axis.
        eps: added to the variance, under the root.
        y: the output of a decomposed norm that LayerNormalization(x, scale, bias) can replace; else None.
        divided_by: what the squares' sum is divided by, where the graph writes the mean so; else None.
    """

    kind: Kind
    written: str
    node: ir.Node
    x: ir.Value
    axis: int
    eps: float
    scale: ir.Value | None = None
    bias: ir.Value | None = None
    y: ir.Value | None = None
    divided_by: float | None = None


@dataclass(frozen=True, slots=True)
class Norm:
    """A normalization layer over the features of every token.

    Attributes:
        name: path of its module, from the weight beside it; else `norm_07`, its place in network order.
        d_model: features per token.
        dtype: of what it normalizes.
        match: where it is in the graph.
    """

    name: str
    d_model: int
    dtype: ir.DataType
    match: Match

    @property
    def kind(self) -> Kind:
        return self.match.kind

    @property
    def eps(self) -> float:
        return self.match.eps

    @property
    def written(self) -> str:
        """How the graph writes it: the name of an operator, or `decomposed`."""
        return self.match.written


@dataclass(frozen=True, slots=True)
class Unobserved:
    """A norm whose statistics are not served.

    Attributes:
        reason: one sentence.
    """

    name: str
    reason: str
