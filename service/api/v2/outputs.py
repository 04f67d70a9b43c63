"""What a model answers over the protocol."""

# R rows, C classes, D d_model, L norm layers

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from runtime.errors import InvalidInput, Unsupported
from runtime.graph.batch import EncodedBatch
from runtime.manifest import Manifest, Task, TensorInputs, TensorSpec
from runtime.words import listed, quoted
from service.api.v2.schemas import Datatype, InferRequest, TensorMetadata
from service.api.v2.tensors import DATATYPES, Values, to_bytes, to_list
from service.inference.engine import Engine
from service.inference.results import norm_means, probabilities, relevance

CLASSIFIED = ("logits", "probabilities")


class Output(NamedTuple):
    """A tensor that can be asked for.

    Attributes:
        dims: its shape without rows.
        values: of a batch [R, *dims].
    """

    datatype: Datatype
    dims: Callable[[Manifest], list[int]]
    values: Callable[[Engine, EncodedBatch], Values]
    unasked: bool = True


CLASSES: dict[str, Output] = {
    "logits": Output("FP32", lambda manifest: [len(manifest.labels)], lambda _, batch: batch.logits),
    "probabilities": Output(
        "FP32",
        lambda manifest: [len(manifest.labels)],
        lambda engine, batch: probabilities(engine.manifest, batch).astype(np.float32),
    ),
    "label": Output(
        "BYTES", lambda _: [], lambda engine, batch: [engine.manifest.labels[best] for best in batch.classes]
    ),
    "score": Output(
        "FP32", lambda _: [], lambda engine, batch: probabilities(engine.manifest, batch).max(1).astype(np.float32)
    ),
}
RELEVANCE: dict[str, Output] = {
    "logits": Output("FP32", lambda _: [1], lambda _, batch: batch.logits),
    "score": Output("FP32", lambda _: [], lambda engine, batch: relevance(engine.manifest, batch).astype(np.float32)),
}
SHARED: dict[str, Output] = {
    "embedding": Output("FP32", lambda manifest: [manifest.d_model], lambda _, batch: batch.embedding),
    "norm_statistics": Output(
        "FP32",
        lambda manifest: [len(manifest.layers), 2],
        lambda engine, batch: norm_means(engine.manifest, batch).astype(np.float32),
        unasked=False,
    ),
}


class Wanted(NamedTuple):
    """An output that a request asks for."""

    name: str
    output: Output
    binary: bool
    classes: int = 0


OUTPUTS: dict[Task, dict[str, Output]] = {
    "classification": CLASSES | SHARED,
    "embedding": SHARED,
    "rerank": RELEVANCE | SHARED,
}


def outputs_of(manifest: Manifest) -> dict[str, Output]:
    """What a model can be asked for: a network that reads tensors for its own outputs, too, which come first."""
    outputs = OUTPUTS[manifest.task]
    if not isinstance(manifest.inputs, TensorInputs):
        return outputs
    own = {spec.name: own_output(spec) for spec in manifest.inputs.outputs}
    asked = {name: output._replace(unasked=name in ("label", "score")) for name, output in outputs.items()}
    return own | {name: output for name, output in asked.items() if name not in own}


def own_output(spec: TensorSpec) -> Output:
    """What the network gives under its own name; its sizes are known once it has run."""

    def values(_: Engine, batch: EncodedBatch) -> NDArray[Any]:
        assert batch.outputs is not None
        found = batch.outputs[spec.name]
        return np.stack(found.tolist()) if found.dtype == object else found

    return Output(DATATYPES[spec.dtype], lambda _: [-1 if size is None else size for size in spec.shape], values)


def described(manifest: Manifest) -> list[TensorMetadata]:
    return [
        TensorMetadata(name=name, datatype=output.datatype, shape=[-1, *output.dims(manifest)])
        for name, output in outputs_of(manifest).items()
    ]


def wanted(request: InferRequest, manifest: Manifest) -> list[Wanted]:
    """The outputs that a request asks for, in its order.

    Raises:
        InvalidInput: there is no such output, or it is asked for twice.
        Unsupported: it is to go to shared memory.
    """
    binary = request.parameters.binary_data_output if request.parameters else False
    outputs, task = outputs_of(manifest), manifest.task
    if not request.outputs:
        return [Wanted(name, output, binary) for name, output in outputs.items() if output.unasked]
    found: list[Wanted] = []
    for item in request.outputs:
        output = outputs.get(item.name)
        if output is None:
            raise InvalidInput("unknown_output", f"There is no output {quoted(item.name)}, expected {listed(outputs)}.")
        if item.name in [other.name for other in found]:
            raise InvalidInput("invalid_tensor", f"{item.name} is asked for twice, expected each output once.")
        parameters = item.parameters
        if parameters is None:
            found.append(Wanted(item.name, output, binary))
            continue
        if parameters.shared_memory_region is not None:
            raise Unsupported(f"{item.name} is to go to shared memory, which is not supported: take it from the body.")
        if parameters.classification and (item.name not in CLASSIFIED or task != "classification"):
            raise InvalidInput(
                "invalid_tensor", f"{item.name} has no classes, expected classification of {' or '.join(CLASSIFIED)}."
            )
        own = parameters.binary_data
        found.append(Wanted(item.name, output, binary if own is None else own, parameters.classification))
    return found


def written(engine: Engine, batch: EncodedBatch, outputs: list[Wanted]) -> tuple[list[dict[str, Any]], list[bytes]]:
    """The `outputs` of an answer, and the binary tensors that follow it."""
    tensors: list[dict[str, Any]] = []
    behind: list[bytes] = []
    for want in outputs:
        output = want.output
        datatype, dims, values = output.datatype, output.dims(engine.manifest), output.values(engine, batch)
        if -1 in dims:
            dims = list(np.shape(values))[1:]
        if want.classes:
            datatype, dims = "BYTES", [min(want.classes, dims[0])]
            values = best(np.asarray(values), engine.manifest.labels, dims[0])
        tensor = {"name": want.name, "datatype": datatype, "shape": [len(batch.classes), *dims]}
        if want.binary:
            behind.append(to_bytes(values))
            tensors.append(tensor | {"parameters": {"binary_data_size": len(behind[-1])}})
        else:
            tensors.append(tensor | {"data": to_list(values)})
    return tensors, behind


def best(values_RC: NDArray[np.float32], labels: list[str], count: int) -> list[str]:
    """The best classes of every row as `value:index:label`, best first, row after row."""
    order = np.argsort(-values_RC, axis=1, kind="stable")[:, :count]
    return [
        f"{value:f}:{index}:{labels[index]}"
        for row, indices in zip(values_RC.tolist(), order.tolist(), strict=True)
        for index in indices
        for value in (row[index],)
    ]
