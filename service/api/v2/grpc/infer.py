"""ModelInfer: the tensors of a message become those that POST .../infer reads, and an answer becomes a message."""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import InvalidInput, Unsupported
from runtime.graph.batch import EncodedBatch
from runtime.graph.inputs import EncodedInput
from runtime.manifest import Manifest
from runtime.words import listed, shortened
from service.api.v2.grpc.call import Call, Work
from service.api.v2.grpc.messages import InferResponse
from service.api.v2.grpc.parameters import parameters_of
from service.api.v2.inputs import accepted, encode, main_input
from service.api.v2.outputs import outputs_of, wanted, written
from service.api.v2.request import refuse_unsupported
from service.api.v2.schemas import InferRequest
from service.api.v2.tensors import DTYPES, LENGTH
from service.batching.queue import Answer
from service.inference.engine import Engine
from service.inference.registry import ModelRegistry
from service.inference.request import Inference

CONTENTS = {  # the field of a message that holds a datatype's values; float16 has none, as in Triton
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
ASKED = "normalization_statistics"  # parameter of a request that wants the model's report beside its answer
TRUNCATED = "truncated"
SPARE = 8  # inputs and outputs beyond what the model has that are still looked at: one of them is told by its name
Report = Callable[[Engine], Awaitable[bytes]]


class GRPCInference(Inference[Any]):
    """An inference request over gRPC, which gets its answer from the batcher.

    Args:
        report: gives the norm statistics of a model, for a request that asks for them.

    Raises:
        AddNormError, ValidationError: it cannot be understood, or asks for what there is not.
    """

    __slots__ = ("binary", "call", "message", "outputs", "report", "request")

    def __init__(self, engine: Engine, message: Any, call: Call, report: Report) -> None:
        started = time.perf_counter()
        self.message, self.call, self.report = message, call, report
        check_counts(message, engine.manifest)
        self.request, self.binary = read_request(message)
        self.outputs = wanted(self.request, engine.manifest)
        microseconds = self.request.parameters.timeout if self.request.parameters else 0
        super().__init__(engine, started, call.caller.timeout(microseconds / 1e6 if microseconds else None))

    @property
    def inputs_name(self) -> str:
        return main_input(self.engine)

    def encode(self) -> list[EncodedInput]:
        return encode(self.engine, self.request.inputs, self.binary)

    def write(self, batch: EncodedBatch) -> Any:
        manifest = self.engine.manifest
        answer = InferResponse(model_name=manifest.name, model_version=manifest.version, id=self.message.id)
        if truncated := sum([item.truncated for item in self.encoded]):
            answer.parameters[TRUNCATED].int64_param = truncated
        tensors, behind = written(self.engine, batch, self.outputs)
        # all outputs in one way: clients find raw contents by their place among the outputs
        raw = bool(self.message.raw_input_contents) or any(each["datatype"] not in CONTENTS for each in tensors)
        for tensor, content in zip(tensors, behind, strict=True):
            output = answer.outputs.add(name=tensor["name"], datatype=tensor["datatype"], shape=tensor["shape"])
            if raw:
                answer.raw_output_contents.append(content)
            else:
                write_contents(output, content)
        return answer

    def done(self) -> bool:
        return self.call.over

    def set_result(self, answer: Answer) -> None:
        try:
            message = self.finish(answer)
        except Exception as error:
            self.set_exception(error)
            return
        self.call.phases = self.phases
        if ASKED in self.message.parameters and self.message.parameters[ASKED].bool_param:
            self.call.work = self.call.run(self._with_report(message))
        else:
            self.call.succeed(message)

    def set_exception(self, error: Exception) -> None:
        self.fail()
        self.call.fail(error.about(self.inputs_name) if isinstance(error, InvalidInput) else error)

    def cancel(self) -> None:
        self.abandon()

    async def _with_report(self, message: Any) -> Any:
        message.parameters[ASKED].string_param = (await self.report(self.engine)).decode()
        return message


def infer(models: ModelRegistry, report: Report, message: Any, call: Call) -> Work:
    """Begins to answer a ModelInferRequest."""
    engine = models.find(message.model_name or None, message.model_version or None)
    if engine.batcher.full:
        engine.batcher.reject()
        raise engine.batcher.overloaded()
    inference = GRPCInference(engine, message, call, report)
    try:
        inference.submit(inference)
    except Exception as error:
        inference.set_exception(error)
    return inference


def check_counts(message: Any, manifest: Manifest) -> None:
    """Refuses what has many more tensors than the model, before anything is made of them.

    Raises:
        InvalidInput: says how many there are, and which the model has.
    """
    asked = ("inputs", message.inputs, accepted(manifest.inputs)), ("outputs", message.outputs, outputs_of(manifest))
    for what, sent, known in asked:
        if len(sent) > len(known) + SPARE:
            raise InvalidInput(
                "invalid_tensor", f"{len(sent):,} {what} are there, expected each of {listed(known)} once at most."
            )


def read_request(message: Any) -> tuple[InferRequest, memoryview]:
    """A message as POST .../infer would have it: what it says of its tensors, and their bytes.

    Raises:
        InvalidInput: its tensors are in two places, or their values in another field than their datatype's.
        Unsupported, ValidationError: its parameters ask for what there is not, or are none.
    """
    raws = contents_of(message)
    inputs = [
        {
            "name": item.name,
            "shape": list(item.shape),
            "datatype": item.datatype,
            "parameters": parameters_of(item.parameters) | {"binary_data_size": len(raw)},
        }
        for item, raw in zip(message.inputs, raws, strict=True)
    ]
    outputs = [{"name": item.name, "parameters": binary(parameters_of(item.parameters))} for item in message.outputs]
    parameters = parameters_of(message.parameters) | {"binary_data_output": True}
    request = InferRequest.model_validate({"inputs": inputs, "outputs": outputs, "parameters": parameters})
    refuse_unsupported(request)
    return request, memoryview(raws[0] if len(raws) == 1 else b"".join(raws))


def binary(parameters: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if name != "binary_data"}


def contents_of(message: Any) -> Sequence[bytes]:
    """The bytes of each input."""
    raws = message.raw_input_contents
    for item in message.inputs:
        if "shared_memory_region" in item.parameters:
            raise Unsupported(
                f"{shortened(item.name)} is in shared memory, which is not supported: send it in the message."
            )
    if not raws:
        return [packed(item) for item in message.inputs]
    if any(item.HasField("contents") for item in message.inputs):
        raise InvalidInput(
            "invalid_tensor", "raw_input_contents and contents are both there, expected one of them for all inputs."
        )
    if len(raws) != len(message.inputs):
        raise InvalidInput(
            "invalid_binary",
            f"raw_input_contents has {len(raws)} entries for {len(message.inputs)} inputs, expected one for each.",
        )
    return raws  # type: ignore[no-any-return]


def packed(item: Any) -> bytes:
    """An input's values, typed, as the bytes that they would be as raw contents."""
    filled = [field.name for field, _ in item.contents.ListFields()]
    field = CONTENTS.get(item.datatype)
    if field is None:
        if item.datatype in DTYPES:
            raise InvalidInput(
                "invalid_tensor", f"{shortened(item.name)} is {item.datatype}: send it in raw_input_contents."
            )
        return b""  # the datatype is refused further on
    if filled and filled != [field]:
        raise InvalidInput(
            "invalid_tensor",
            f"{shortened(item.name)} is {item.datatype} and has {', '.join(filled)}, expected {field}.",
        )
    values = getattr(item.contents, field)
    if item.datatype == "BYTES":
        return b"".join([len(value).to_bytes(LENGTH, "little") + value for value in values])
    return in_range(item.name, np.array(values, dtype=np.float64 if "FP" in item.datatype else None), item.datatype)


def in_range(name: str, values: NDArray[Any], datatype: str) -> bytes:
    """Numbers as bytes of their datatype; the fields of a message hold larger ones."""
    dtype = DTYPES[datatype]
    if dtype.kind in "iu" and len(values):
        limits = np.iinfo(dtype)
        if values.min() < limits.min or values.max() > limits.max:
            raise InvalidInput("invalid_tensor", f"{shortened(name)} has numbers that are no {datatype}.")
    with np.errstate(over="ignore"):
        content: bytes = values.astype(dtype).tobytes()
    return content


def write_contents(output: Any, content: bytes) -> None:
    """An output's values into the field of its datatype."""
    field = getattr(output.contents, CONTENTS[output.datatype])
    if output.datatype != "BYTES":
        field.extend(np.frombuffer(content, DTYPES[output.datatype]).tolist())
        return
    at = 0
    while at < len(content):
        size = int.from_bytes(content[at : at + LENGTH], "little")
        field.append(content[at + LENGTH : at + LENGTH + size])
        at += LENGTH + size
