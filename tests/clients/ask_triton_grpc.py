"""Asks a server with Triton's gRPC client and prints what it read as JSON; runs in `.clients/kserve`.

Usage: python ask_triton_grpc.py 127.0.0.1:9000
"""

import asyncio
import json
import queue
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.grpc import model_config_pb2, service_pb2
from tritonclient.utils import InferenceServerException

TEXTS = ("what is my balance", "will it rain")
FEATURES = np.linspace(-1, 1, 3 * 5 * 4, dtype=np.float32).reshape(3, 5, 4)


def texts(*given: str) -> list[triton.InferInput]:
    sent = triton.InferInput("text", [len(given)], "BYTES")
    sent.set_data_from_numpy(np.array(given, dtype=object))
    return [sent]


def features() -> list[triton.InferInput]:
    sent = triton.InferInput("features", list(FEATURES.shape), "FP32")
    sent.set_data_from_numpy(FEATURES)
    return [sent]


def read(result: Any) -> dict[str, Any]:
    """The tensors of an answer."""
    found = {}
    for output in result.get_response().outputs:
        values = result.as_numpy(output.name)
        found[output.name] = [value.decode() for value in values] if output.datatype == "BYTES" else values.tolist()
    return found


def refusal(ask: Callable[[], Any]) -> list[str]:
    """Status and message of what is refused."""
    try:
        ask()
    except InferenceServerException as error:
        return [str(error.status()), error.message()]
    raise AssertionError("nothing was refused")


def ask(url: str) -> dict[str, Any]:
    with triton.InferenceServerClient(url) as client:
        found: dict[str, Any] = {
            "live": client.is_server_live(),
            "ready": client.is_server_ready(),
            "models": [client.is_model_ready(*model) for model in (("texts",), ("signals", "7"), ("nope",))],
            "server": client.get_server_metadata(as_json=True),
            "metadata": client.get_model_metadata("signals", as_json=True),
            "config": client.get_model_config("texts", as_json=True),
            "index": client.get_model_repository_index(as_json=True),
            "texts": read(client.infer("texts", texts(*TEXTS), request_id="42")),
            "signals": read(client.infer("signals", features(), compression_algorithm="gzip")),
        }
        wanted = [
            triton.InferRequestedOutput("probabilities", class_count=2),
            triton.InferRequestedOutput("norm_statistics"),
        ]
        result = client.infer("texts", texts(*TEXTS), outputs=wanted)
        found["best"] = [each.decode() for each in result.as_numpy("probabilities").ravel()]
        found["norm_statistics"] = list(result.as_numpy("norm_statistics").shape)
        found["statistics"] = client.get_inference_statistics("texts", as_json=True)
        found["refused"] = refusals(client)
        found["stream"] = stream(client)
    found["aio"] = asyncio.run(ask_aio(url))
    return found


def refusals(client: triton.InferenceServerClient) -> dict[str, list[str]]:
    wrong = triton.InferInput("text", [2], "FP32")
    wrong.set_data_from_numpy(np.zeros(2, "f4"))
    cases: dict[str, Callable[[], Any]] = {
        "model": lambda: client.infer("nope", texts("a")),
        "version": lambda: client.infer("texts", texts("a"), model_version="9"),
        "datatype": lambda: client.infer("texts", [wrong]),
        "output": lambda: client.infer("texts", texts("a"), outputs=[triton.InferRequestedOutput("nope")]),
        "rows": lambda: client.infer("texts", texts(*["a"] * 1000)),
        "large": lambda: client.infer("texts", texts("a" * 2_000_000)),
        "deadline": lambda: client.infer("texts", texts("a"), client_timeout=1e-6),
        "load": lambda: client.load_model("texts"),
        "unload": lambda: client.unload_model("texts"),
        "memory": client.get_system_shared_memory_status,
        "cuda": client.get_cuda_shared_memory_status,
        "trace": client.get_trace_settings,
        "log": client.get_log_settings,
    }
    return {name: refusal(case) for name, case in cases.items()}


def stream(client: triton.InferenceServerClient) -> list[Any]:
    """The labels that a stream gives, in their order; or why not."""
    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: answers.put(error or result))
    for number in range(5):
        client.async_stream_infer("nope" if number == 2 else "texts", texts(TEXTS[number % 2]), request_id=str(number))
    found = [answers.get(timeout=20) for _ in range(5)]
    client.stop_stream()
    return [each.message() if isinstance(each, Exception) else read(each)["label"] for each in found]


async def ask_aio(url: str) -> dict[str, Any]:
    async with triton_aio.InferenceServerClient(url) as client:
        answers = await asyncio.gather(*[client.infer("texts", texts(text)) for text in TEXTS * 8])
        return {"live": await client.is_server_live(), "labels": [read(answer)["label"][0] for answer in answers]}


def descriptors() -> dict[str, Any]:
    """The messages of the client's own generated code, by name: field names by number, label and type."""

    def fields(message: Any) -> dict[str, Any]:
        return {
            field.name: [field.number, field.label, field.type, field.message_type and field.message_type.full_name]
            for field in message.fields
        }

    found = {}
    for module in (service_pb2, model_config_pb2):
        waiting = list(module.DESCRIPTOR.message_types_by_name.values())
        while waiting:
            message = waiting.pop()
            found[message.full_name] = fields(message)
            waiting += message.nested_types
    found["inference.DataType"] = {value.name: value.number for value in model_config_pb2.DataType.DESCRIPTOR.values}
    return found


if __name__ == "__main__":
    print(json.dumps(descriptors() if sys.argv[1] == "descriptors" else ask(sys.argv[1])))
