"""Bodies of OpenAI's API, as far as it is served."""

from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema

from service.schemas import Body

IDS = {"type": "array", "minItems": 1, "items": {"type": "integer"}}
Input = Annotated[
    Any,
    WithJsonSchema(
        {
            "description": "A text, a list of texts, token ids, or a list of lists of them.",
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1}},
                IDS,
                {"type": "array", "minItems": 1, "items": IDS},
            ],
        }
    ),
]


class EmbeddingsRequest(Body):
    """What to embed."""

    input: Input
    model: str
    """A model's name, or name:version."""
    encoding_format: Literal["float", "base64"] = "float"
    """base64: of little-endian float32."""
    dimensions: int | None = Field(None, strict=True)
    """Nothing but the model's own width is possible."""
    user: str | None = None
    """Is not looked at."""


class OpenAIEmbedding(Body):
    object: Literal["embedding"]
    index: int
    embedding: list[float] | str
    """Of length 1."""


class Usage(Body):
    prompt_tokens: int
    total_tokens: int


class EmbeddingsResponse(Body):
    object: Literal["list"]
    data: list[OpenAIEmbedding]
    model: str
    usage: Usage


class OpenAIModel(Body):
    id: str
    object: Literal["model"] = "model"
    created: int
    """When it was exported; Unix seconds."""
    owned_by: str = "addnorm"


class ModelsResponse(Body):
    object: Literal["list"] = "list"
    data: list[OpenAIModel]
