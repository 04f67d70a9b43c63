"""The body of an inference request: JSON, and binary tensors behind it."""

import gzip
import zlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

from runtime.errors import InvalidInput, TooLarge, Unsupported
from runtime.manifest import TensorInputs
from runtime.words import quoted
from service.api.v2.schemas import InferRequest, InputParameters, InputTensor, RequestParameters
from service.api.v2.tensors import DATATYPES, LENGTH
from service.inference.engine import Engine

HEADER = b"inference-header-content-length"

GZIP, ZLIB = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS  # zlib's words for the formats
FORMATS = {"gzip": GZIP, "x-gzip": GZIP, "deflate": ZLIB}
LEVEL = 1  # tensors of floats hardly shrink further
WORTH_IT = 1024  # bytes; smaller answers are sent as they are
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda content: gzip.compress(content, LEVEL, mtime=0),
    "deflate": lambda content: zlib.compress(content, LEVEL),
}


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
    refuse_unsupported(call.request)
    return call


def json_size(header: str, available: int) -> int:
    """Bytes of the JSON."""
    if not (header.isascii() and header.isdigit() and len(header) < 19 and int(header) <= available):
        raise InvalidInput(
            "invalid_binary",
            f"Inference-Header-Content-Length is {quoted(header)}, expected 0 to {available}, the size of the body.",
        )
    return int(header)


def raw_call(engine: Engine, body: bytes) -> Call:
    """A body that is one row of the model's input and nothing else; all outputs come back binary."""
    inputs = engine.manifest.inputs
    if inputs.kind == "text":
        name, datatype, shape, body = "text", "BYTES", [1], len(body).to_bytes(LENGTH, "little") + body
    elif isinstance(inputs, TensorInputs):
        name, datatype, shape = whole_row(inputs)
    else:
        name, datatype, shape = "features", "FP32", [1, len(body) // (4 * inputs.num_features), inputs.num_features]
    sent = InputTensor(
        name=name, datatype=datatype, shape=shape, parameters=InputParameters(binary_data_size=len(body))
    )
    return Call(InferRequest(inputs=[sent], parameters=RequestParameters(binary_data_output=True)), memoryview(body))


def whole_row(inputs: TensorInputs) -> tuple[str, str, list[int]]:
    """Name, datatype and shape of the only input, or raises InvalidInput."""
    first, *others = inputs.tensors
    sizes = [size for size in first.shape if size is not None]
    if others or len(sizes) < len(first.shape):
        raise InvalidInput(
            "invalid_binary",
            "A body of one tensor alone is for models with one input of a fixed size: send JSON with binary_data_size.",
        )
    return first.name, DATATYPES[first.dtype], [1, *sizes]


def refuse_unsupported(request: InferRequest) -> None:
    if (parameters := request.parameters) is None:
        return
    if parameters.sequence_id not in (0, "") or parameters.sequence_start or parameters.sequence_end:
        raise Unsupported("Sequences of requests are not supported: leave sequence_id, _start and _end out.")
    if parameters.priority:
        raise Unsupported("priority is not supported, requests are treated alike: leave it out.")


def inflated(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """A body without its Content-Encoding; no more than `max_bytes` + 1 of it are ever held.

    Raises:
        TooLarge: it inflates to more than `max_bytes`.
        InvalidInput: it is not what its encoding says.
        Unsupported: the encoding is not known.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding not in FORMATS:
        raise Unsupported(
            f"Content-Encoding {quoted(encoding)} is not supported: send gzip, deflate, or the body as it is."
        )
    inflater = zlib.decompressobj(FORMATS[encoding])
    try:
        content = inflater.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise InvalidInput("invalid_encoding", f"The body is not {encoding} ({error}).") from None
    if len(content) > max_bytes:
        raise TooLarge(max_bytes)
    if not inflater.eof or inflater.unused_data:
        what = "ends early" if not inflater.eof else "has bytes behind its end"
        raise InvalidInput("invalid_encoding", f"The {encoding} body {what}, expected exactly one whole stream.")
    return content


def chosen(accept: str) -> str | None:
    """The encoding for an answer, of those that Accept-Encoding names; None: as it is."""
    weights: dict[str, float] = {}
    for part in accept.lower().split(","):
        name, _, parameter = part.partition(";")
        try:
            weights[name.strip()] = float(parameter.strip().removeprefix("q=")) if parameter else 1.0
        except ValueError:
            continue
    best = max(COMPRESS, key=lambda name: weights.get(name, 0.0))
    return best if weights.get(best, 0.0) > 0 else None
