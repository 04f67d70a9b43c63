"""What becomes of the tensors of a message, without a server."""

from typing import Any

import numpy as np
import pytest

from runtime.errors import InvalidInput, Unsupported
from service.api.v2.grpc.infer import CONTENTS, GRPCInference, packed, read_request, write_contents
from service.api.v2.grpc.messages import InferRequest, InferResponse
from service.api.v2.tensors import DTYPES, to_bytes
from service.inference.engine import Engine

VALUES = {
    "BOOL": np.array([True, False]),
    "INT8": np.array([-128, 127], "i1"),
    "INT16": np.array([-3, 3], "i2"),
    "INT32": np.array([-(2**31), 5], "i4"),
    "INT64": np.array([-(2**63), 7], "i8"),
    "UINT8": np.array([0, 255], "u1"),
    "FP32": np.array([1.5, -np.inf], "f4"),
    "FP64": np.array([1e300, 0.1], "f8"),
}


def tensor(datatype: str, **contents: Any) -> Any:
    item = InferRequest().inputs.add(name="x", datatype=datatype, shape=[2])
    for field, values in contents.items():
        getattr(item.contents, field).extend(values)
    return item


@pytest.mark.parametrize("datatype", VALUES)
def test_typed_values_become_the_bytes_of_raw_ones_and_back(datatype: str) -> None:
    values = VALUES[datatype]
    content = packed(tensor(datatype, **{CONTENTS[datatype]: values.tolist()}))
    np.testing.assert_array_equal(np.frombuffer(content, DTYPES[datatype]), values)
    output = InferResponse().outputs.add(datatype=datatype)
    write_contents(output, content)
    np.testing.assert_array_equal(getattr(output.contents, CONTENTS[datatype]), values)


def test_texts_have_their_lengths() -> None:
    content = packed(tensor("BYTES", bytes_contents=["ä".encode(), b""]))
    assert content == b"\x02\x00\x00\x00\xc3\xa4\x00\x00\x00\x00" == to_bytes(["ä", ""])
    output = InferResponse().outputs.add(datatype="BYTES")
    write_contents(output, content)
    assert list(output.contents.bytes_contents) == ["ä".encode(), b""]


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (tensor("INT8", int_contents=[128, 0]), "numbers that are no INT8"),
        (tensor("UINT8", uint_contents=[256]), "numbers that are no UINT8"),
        (tensor("FP16"), "send it in raw_input_contents"),
        (tensor("FP32", int_contents=[1]), "expected fp32_contents"),
        (tensor("FP32", fp32_contents=[1.0], int_contents=[1]), "has int_contents, fp32_contents"),
    ],
)
def test_values_that_do_not_fit_are_refused(item: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        packed(item)


def test_shared_memory_is_refused_by_name() -> None:
    message = InferRequest()
    message.inputs.add(name="x", datatype="FP32", shape=[1]).parameters["shared_memory_region"].string_param = "mine"
    with pytest.raises(Unsupported, match="x is in shared memory"):
        read_request(message)


def test_parameters_reach_the_request() -> None:
    message = InferRequest(id="7")
    message.parameters["timeout"].int64_param = 5000
    output = message.outputs.add(name="logits")
    output.parameters["classification"].int64_param = 3
    output.parameters["binary_data"].bool_param = False
    request, _ = read_request(message)
    assert request.parameters is not None and request.parameters.timeout == 5000
    assert request.outputs is not None and request.outputs[0].parameters is not None
    assert request.outputs[0].parameters.classification == 3 and request.outputs[0].parameters.binary_data is None


@pytest.mark.parametrize("half", [False, True])
def test_all_outputs_of_an_answer_are_typed_or_all_are_raw(half: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A half-precision output has no typed contents; clients find raw ones by their place."""
    second = ("FP16", np.ones(1, "f2")) if half else ("FP32", np.ones(1, "f4"))
    tensors = [{"name": name, "datatype": kind, "shape": [1]} for name, kind in (("a", "FP32"), ("b", second[0]))]
    behind = [np.ones(1, "f4").tobytes(), second[1].tobytes()]
    monkeypatch.setattr("service.api.v2.grpc.infer.written", lambda *_: (tensors, behind))

    class Inference:
        engine = type("Engine", (), {"manifest": type("Manifest", (), {"name": "m", "version": "1"})})
        message, encoded, outputs = InferRequest(), (), ()

    answer = GRPCInference.write(Inference(), None)  # type: ignore[arg-type]
    assert list(answer.raw_output_contents) == (behind if half else [])
    assert [output.HasField("contents") for output in answer.outputs] == [not half] * 2


@pytest.mark.parametrize(("what", "known"), [("inputs", "text, input_ids"), ("outputs", "logits, probabilities")])
def test_many_more_tensors_than_the_model_has_are_refused_by_their_number(
    text_engine: Engine, what: str, known: str
) -> None:
    """To look at each would take seconds, in which nobody is answered."""
    message = InferRequest()
    for _ in range(20_000):
        getattr(message, what).add()
    with pytest.raises(InvalidInput, match=f"20,000 {what} are there, expected each of {known}"):
        GRPCInference(text_engine, message, None, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("place", ["", "inputs", "outputs"])
def test_parameters_without_end_are_refused_by_their_number(place: str) -> None:
    message = InferRequest()
    holder = getattr(message, place).add(name="text") if place else message
    for number in range(20_000):
        holder.parameters[f"p{number}"].bool_param = True
    with pytest.raises(InvalidInput, match="20,000 parameters are there, expected at most 100"):
        read_request(message)


@pytest.mark.parametrize(
    ("name", "field", "value", "words"),
    [
        ("priority", "uint64_param", 1, "priority is not supported"),
        ("sequence_id", "int64_param", 1, "Sequences of requests"),
        ("sequence_id", "string_param", "a", "Sequences of requests"),
        ("sequence_start", "bool_param", True, "Sequences of requests"),
        ("sequence_end", "bool_param", True, "Sequences of requests"),
    ],
)
def test_what_http_does_not_support_is_refused(name: str, field: str, value: Any, words: str) -> None:
    message = InferRequest()
    setattr(message.parameters[name], field, value)
    with pytest.raises(Unsupported, match=words):
        read_request(message)


def test_long_names_are_cut() -> None:
    with pytest.raises(InvalidInput) as caught:
        packed(InferRequest().inputs.add(name="x" * 20_000, datatype="FP16"))
    assert len(str(caught.value)) < 300
