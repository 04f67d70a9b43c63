# Made from the OpenAPI document by clients/python/generate_models.py: change that, or the service.

from addnorm_client.bodies import Body


class LayerDeviation(Body):
    """Mean and variance of one input at one norm, averaged over its tokens."""

    mean: float
    mean_z: float
    """Standard deviations of validation requests that the mean lies from their average."""
    name: str
    variance: float
    variance_z: float
    """The same for the variance."""


class Candidate(Body):
    """One class and its probability."""

    label: str
    score: float


class Embedded(Body):
    """The answer for one input."""

    embedding: list[float]
    tokens: int
    """Tokens that were read."""
    truncated: bool
    """Whether the input was longer than the model reads."""


class Prediction(Body):
    """The answer for one input."""

    label: str
    norm_stats: list[LayerDeviation] | None = None
    percentile: float | None = None
    """Beside norm_stats: of a hundred of the baseline's requests, how many the model is surer of than of this one."""
    score: float
    """Probability of the label."""
    tokens: int
    """Tokens that were read."""
    top: list[Candidate]
    truncated: bool
    """Whether the input was longer than the model reads."""


class EmbedResponse(Body):
    embeddings: list[Embedded]
    model: str
    version: str


class PredictResponse(Body):
    model: str
    predictions: list[Prediction]
    version: str
