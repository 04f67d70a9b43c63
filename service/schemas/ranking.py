"""Bodies of POST /rerank, POST /similarity and POST /tokenize."""

from pydantic import Field

from service.schemas.base import Body
from service.schemas.inference import Inputs


class RerankRequest(Body):
    """Which documents answer a query best."""

    query: str = Field(min_length=1)
    documents: list[str] = Field(min_length=1)
    top_n: int | None = Field(None, ge=1, strict=True)
    """Results to return, best first; all where it is missing."""
    return_documents: bool = Field(False, strict=True)
    """Whether every result has its document."""
    raw_scores: bool = Field(False, strict=True)
    """Whether scores are the model's logits, in the place of what its activation makes of them."""
    model: str | None = None
    """Its name; the default model where it is missing."""
    version: str | None = None
    """The highest where it is missing."""
    timeout: float | None = Field(None, gt=0, le=3600, strict=True)
    """Seconds after which no answer is wanted any more; the service's own limit where it is missing."""


class Ranked(Body):
    """One document, and how well it answers the query."""

    index: int
    """Its place among the documents of the request."""
    relevance_score: float
    document: str | None = None


class RerankResponse(Body):
    model: str
    version: str
    results: list[Ranked]
    """Best first."""
    truncated: list[int]
    """Places of the documents that were not read to their end, or for which the query was not."""


class SimilarityRequest(Body):
    """How near texts are to another."""

    source_sentence: str = Field(min_length=1)
    sentences: list[str] = Field(min_length=1)
    prompt_name: str | None = None
    """The model's prompt that is put before each text; its default one where it is missing."""
    model: str | None = None
    """Its name; the default model where it is missing."""
    version: str | None = None
    """The highest where it is missing."""
    timeout: float | None = Field(None, gt=0, le=3600, strict=True)
    """Seconds after which no answer is wanted any more; the service's own limit where it is missing."""


class SimilarityResponse(Body):
    model: str
    version: str
    similarities: list[float]
    """Cosines between the source's embedding and each sentence's, in their order."""


class TokenizeRequest(Body):
    """What to cut into tokens."""

    inputs: Inputs
    model: str | None = None
    """Its name; the default model where it is missing."""
    version: str | None = None
    """The highest where it is missing."""
    prompt_name: str | None = None
    """The model's prompt that is put before each input; its default one where it is missing."""


class Token(Body):
    id: int
    text: str
    special: bool
    """Whether the tokenizer added it."""
    start: int
    """Where it begins in the text (and its prompt), in characters; of a special token 0."""
    stop: int


class TokenizeResponse(Body):
    model: str
    version: str
    tokens: list[list[Token]]
    """Those that the model reads of each input."""
