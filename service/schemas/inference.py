"""Bodies of inference: POST /predict and POST /embed."""

from typing import Annotated, Any

from pydantic import Field, WithJsonSchema

from service.schemas.base import Body

SEQUENCE = {
    "type": "array",
    "minItems": 1,
    "items": {"type": "array", "minItems": 1, "items": {"type": "number"}},
}
PAIR = {"type": "array", "minItems": 2, "maxItems": 2, "items": {"type": "string", "minLength": 1}}
Inputs = Annotated[
    Any,
    WithJsonSchema(
        {
            "title": "Inputs",
            "description": "A text, a list of texts, a list of pairs of texts, or a list of float sequences "
            "[tokens][features]: what the model reads.",
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1}},
                {"type": "array", "minItems": 1, "items": PAIR},
                {"type": "array", "minItems": 1, "items": SEQUENCE},
            ],
        }
    ),
]


class PredictRequest(Body):
    """What to classify."""

    inputs: Inputs
    top_k: int = Field(1, ge=1, strict=True)
    """Classes to return for each input, best first; more than there are returns all."""
    timeout: float | None = Field(None, gt=0, le=3600, strict=True)
    """Seconds after which no answer is wanted any more; the service's own limit where it is missing."""
    norm_stats: bool = Field(False, strict=True)
    """Whether to add, for every normalization layer, how far this input lies from the validation data."""
    model: str | None = None
    """Its name; the default model where it is missing."""
    version: str | None = None
    """The highest where it is missing."""


class Candidate(Body):
    """One class and its probability."""

    label: str
    score: float


class LayerDeviation(Body):
    """Mean and variance of one input at one norm, averaged over its tokens."""

    name: str
    mean: float
    variance: float
    mean_z: float
    """Standard deviations of validation requests that the mean lies from their average."""
    variance_z: float
    """The same for the variance."""


class Prediction(Body):
    """The answer for one input."""

    label: str
    score: float
    """Probability of the label."""
    tokens: int
    """Tokens that were read."""
    truncated: bool
    """Whether the input was longer than the model reads."""
    top: list[Candidate]
    norm_stats: list[LayerDeviation] | None = None
    percentile: float | None = None
    """Beside norm_stats: of a hundred of the baseline's requests, how many the model is surer of than of this one."""


class PredictResponse(Body):
    model: str
    version: str
    predictions: list[Prediction]


class EmbedRequest(Body):
    """What to embed."""

    inputs: Inputs
    model: str | None = None
    """Its name; the default model where it is missing."""
    version: str | None = None
    """The highest where it is missing."""
    normalize: bool | None = Field(None, strict=True)
    """Whether they have length 1, so that their dot products are cosines; else they are as the graph gives them. Where
    it is missing, as the model was made for: length 1, but for some adopted encoders."""
    prompt_name: str | None = None
    """The model's prompt that is put before each input; its default one where it is missing."""
    timeout: float | None = Field(None, gt=0, le=3600, strict=True)
    """Seconds after which no answer is wanted any more; the service's own limit where it is missing."""


class Embedded(Body):
    """The answer for one input."""

    embedding: list[float]
    tokens: int
    """Tokens that were read."""
    truncated: bool
    """Whether the input was longer than the model reads."""


class EmbedResponse(Body):
    model: str
    version: str
    embeddings: list[Embedded]
