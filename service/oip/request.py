"""The body of an inference request: JSON, and binary tensors behind it."""

from collections.abc import Mapping
from typing import NamedTuple

from runtime.errors import InvalidInput, Unsupported
from service.engine import Engine
from service.oip.compression import inflated
from service.oip.schemas import InferRequest, InputParameters, InputTensor, RequestParameters
from service.oip.tensors import LENGTH

HEADER = b"inference-header-content-length"


class Call(NamedTuple):
    """An inference request; `binary` is what follows its JSON."""

    request: InferRequest
    binary: memoryview

    @property
    def timeout(self) -> float | None:
        """Seconds."""
        microseconds = self.request.parameters.timeout if self.request.parameters else 0
        return microseconds / 1e6 if microseconds else None


def read_call(engine: Engine, body: bytes, headers: Mapping[bytes, bytes], max_bytes: int) -> Call:
    """A request's body, understood.

    Args:
        headers: its HTTP headers, names in small letters.
        max_bytes: most bytes that it may inflate to.

    Raises:
        TooLarge, InvalidInput, Unsupported, ValidationError: it cannot be understood, or asks for what there is not.
    """
    body = inflated(body, headers.get(b"content-encoding", b"").decode("latin-1"), max_bytes)
    header = headers.get(HEADER)
    if header is None:
        call = Call(InferRequest.model_validate_json(body), memoryview(b""))
    elif size := json_size(header.decode("latin-1"), len(body)):
        call = Call(InferRequest.model_validate_json(body[:size]), memoryview(body)[size:])
    else:
        call = raw_call(engine, body)
    if call.request.parameters is not None:
        refuse_unsupported(call.request.parameters)
    return call


def json_size(header: str, available: int) -> int:
    """Bytes of the JSON."""
    if not (header.isascii() and header.isdigit() and len(header) < 19 and int(header) <= available):
        raise InvalidInput(
            "invalid_binary",
            f"Inference-Header-Content-Length is {header[:40]!r}, expected 0 to {available}, the size of the body.",
        )
    return int(header)


def raw_call(engine: Engine, body: bytes) -> Call:
    """A body that is one row of the model's input and nothing else; all outputs come back binary."""
    inputs = engine.manifest.inputs
    if inputs.kind == "text":
        name, datatype, shape, body = "text", "BYTES", [1], len(body).to_bytes(LENGTH, "little") + body
    else:
        name, datatype, shape = "features", "FP32", [1, len(body) // (4 * inputs.num_features), inputs.num_features]
    sent = InputTensor(
        name=name, datatype=datatype, shape=shape, parameters=InputParameters(binary_data_size=len(body))
    )
    return Call(InferRequest(inputs=[sent], parameters=RequestParameters(binary_data_output=True)), memoryview(body))


def refuse_unsupported(parameters: RequestParameters) -> None:
    if parameters.sequence_id not in (0, "") or parameters.sequence_start or parameters.sequence_end:
        raise Unsupported("Sequences of requests are not supported: leave sequence_id, _start and _end out.")
    if parameters.priority:
        raise Unsupported("priority is not supported, requests are treated alike: leave it out.")
