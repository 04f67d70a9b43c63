"""Bodies of the Open Inference Protocol. Requests may hold more than is read; null is as good as missing."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from runtime.described import Described
from service.schemas.base import Body

Size = Annotated[int, Field(ge=0, strict=True)]
Number = Annotated[int, Field(ge=0, lt=1 << 64, strict=True)]  # as gRPC has them
Flag = Annotated[bool, Field(strict=True)]
Datatype = Literal["BYTES", "BOOL", "FP16", "FP32", "FP64", "INT8", "INT16", "INT32", "INT64", "UINT8"]


class Open(Described, BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class InputParameters(Open):
    binary_data_size: Number | None = None
    """Bytes of this tensor behind the JSON, in the place of `data`."""
    shared_memory_region: str | None = None
    """Not supported."""


class InputTensor(Open):
    name: str
    shape: list[Size]
    datatype: str
    parameters: InputParameters | None = None
    data: Any = None
    """Row-major, flat or nested."""


class OutputParameters(Open):
    binary_data: Flag | None = None
    """Whether the tensor comes behind the JSON; `binary_data_output` where it is missing."""
    classification: Number = 0
    """Of logits or probabilities: the best so many classes instead, each as `value:index:label`."""
    shared_memory_region: str | None = None
    """Not supported."""


class RequestedOutput(Open):
    name: str
    parameters: OutputParameters | None = None


class RequestParameters(Open):
    binary_data_output: Flag = False
    """Whether outputs follow the JSON as binary data; an output's own parameter comes first."""
    timeout: Number = 0
    """Microseconds after which no answer is wanted; 0: the service's own limit."""
    priority: Number = 0
    """Not supported: requests are treated alike."""
    sequence_id: Annotated[int, Field(strict=True)] | str = 0
    """Not supported, like `sequence_start` and `sequence_end`."""
    sequence_start: Flag = False
    sequence_end: Flag = False


class InferRequest(Open):
    """What to infer from; binary tensors follow the JSON."""

    id: str | None = None
    """Comes back with the answer."""
    parameters: RequestParameters | None = None
    inputs: list[InputTensor]
    outputs: list[RequestedOutput] | None = None
    """Where it is missing or empty: all but `norm_statistics`."""


class OutputTensor(Open):
    name: str
    datatype: Datatype
    shape: list[int]
    parameters: dict[str, Any] = {}
    """`binary_data_size` where the tensor comes behind the JSON."""
    data: list[Any] = []
    """Row-major and flat; null stands for NaN and infinity."""


class InferResponse(Open):
    model_name: str
    model_version: str
    id: str = ""
    parameters: dict[str, Any] = {}
    """`truncated`: how many inputs were longer than the model reads, where there are any."""
    outputs: list[OutputTensor]


class ServerMetadata(Body):
    name: str
    version: str
    extensions: list[str]


class TensorMetadata(Body):
    name: str
    datatype: Datatype
    shape: list[int]
    """-1 is any size; the first is rows."""


class ModelMetadata(Body):
    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ServerLive(Body):
    live: bool


class ServerReady(Body):
    ready: bool


class ModelReady(Body):
    name: str
    ready: bool


class TensorConfig(Body):
    name: str
    data_type: str
    dims: list[int]
    """Without rows."""


class ModelConfig(Body):
    """As Triton's clients read it."""

    name: str
    platform: str
    backend: str
    max_batch_size: int
    """Most rows of a request."""
    input: list[TensorConfig]
    output: list[TensorConfig]
    dynamic_batching: dict[str, Any]
    parameters: dict[str, dict[str, str]]


class Duration(Body):
    count: int
    ns: int


class InferenceStatistics(Body):
    """Of requests."""

    success: Duration
    fail: Duration
    queue: Duration
    compute_input: Duration
    """Parsing and tokenizing."""
    compute_infer: Duration
    """The batches that held its rows."""
    compute_output: Duration
    """Writing the answer."""
    cache_hit: Duration
    cache_miss: Duration


class BatchStatistics(Body):
    """Of batches of one size."""

    batch_size: int
    compute_input: Duration
    """Packing rows."""
    compute_infer: Duration
    """Running the graph."""
    compute_output: Duration
    """Recording what the norms saw."""


class ModelStatistics(Body):
    name: str
    version: str
    last_inference: int
    """Unix milliseconds."""
    inference_count: int
    """Rows that were answered."""
    execution_count: int
    """Batches that ran."""
    inference_stats: InferenceStatistics
    response_stats: dict[str, Any]
    batch_stats: list[BatchStatistics]
    memory_usage: list[Any]


class StatisticsResponse(Body):
    model_stats: list[ModelStatistics]
