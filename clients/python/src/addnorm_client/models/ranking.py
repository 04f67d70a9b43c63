# Made from the OpenAPI document by clients/python/generate_models.py: change that, or the service.

from addnorm_client.bodies import Body


class Ranked(Body):
    """One document, and how well it answers the query."""

    document: str | None = None
    index: int
    """Its place among the documents of the request."""
    relevance_score: float


class SimilarityResponse(Body):
    model: str
    similarities: list[float]
    """Cosines between the source's embedding and each sentence's, in their order."""
    version: str


class Token(Body):
    id: int
    special: bool
    """Whether the tokenizer added it."""
    start: int
    """Where it begins in the text (and its prompt), in characters; of a special token 0."""
    stop: int
    text: str


class RerankResponse(Body):
    model: str
    results: list[Ranked]
    """Best first."""
    truncated: list[int]
    """Places of the documents that were not read to their end, or for which the query was not."""
    version: str


class TokenizeResponse(Body):
    model: str
    tokens: list[list[Token]]
    """Those that the model reads of each input."""
    version: str
