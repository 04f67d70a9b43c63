"""Asks a server over gRPC with our own messages, and prints what it read as JSON; a process of its own.

Usage: python -m tests.service.api.v2.grpc.ask WHAT ADDRESS [ARGUMENT ...]
"""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from service.api.v2.grpc.messages import InferRequest, InferResponse, StreamResponse, message

SERVICE = "/inference.GRPCInferenceService"
Metadata = Sequence[tuple[str, str]]


def request(*texts: str, raw: bool = True, model: str = "") -> Any:
    made = InferRequest(model_name=model)
    item = made.inputs.add(name="text", datatype="BYTES", shape=[len(texts)])
    contents = [text.encode() for text in texts]
    if raw:
        made.raw_input_contents.append(b"".join(len(each).to_bytes(4, "little") + each for each in contents))
    else:
        item.contents.bytes_contents.extend(contents)
    return made


def infer(channel: grpc.Channel) -> Any:
    return channel.unary_unary(f"{SERVICE}/ModelInfer", InferRequest.SerializeToString, InferResponse.FromString)


def refusal(ask: Callable[[], Any]) -> dict[str, Any]:
    """Status and sentence of what is refused; OK of what is not."""
    try:
        ask()
    except grpc.RpcError as error:
        return {"status": error.code().name, "message": error.details()}
    return {"status": "OK"}


def describe(address: str) -> dict[str, Any]:
    """Health, reflection, both ways to send tensors, and norm statistics."""
    with grpc.insecure_channel(address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        check = [health.Check(health_pb2.HealthCheckRequest(service=name)).status for name in ("", "intents")]
        watched = next(iter(health.Watch(health_pb2.HealthCheckRequest(service="nope"), timeout=10))).status
        raw, typed = (
            infer(channel)(request("hello", "will it rain")),
            infer(channel)(request("hello", "will it rain", raw=False)),
        )
        asked = request("hello")
        asked.parameters["normalization_statistics"].bool_param = True
        report = json.loads(infer(channel)(asked).parameters["normalization_statistics"].string_param)
        get = channel.unary_unary(
            "/addnorm.v1.NormStatistics/Get",
            message("addnorm.v1.NormStatsRequest").SerializeToString,
            message("google.protobuf.Struct").FromString,
        )
        struct = MessageToDict(get(message("addnorm.v1.NormStatsRequest")(model_name="intents")))
        long = request("hello " * 500)
        return {
            "health": check,
            "unknown": watched,
            "missing": refusal(lambda: health.Check(health_pb2.HealthCheckRequest(service="nope"))),
            "services": sorted(ProtoReflectionDescriptorDatabase(channel).get_services()),
            "raw": [output.name for output in raw.outputs] + [str(len(raw.raw_output_contents))],
            "typed": [len(output.contents.ListFields()) for output in typed.outputs],
            "labels": [value.decode() for value in typed.outputs[2].contents.bytes_contents],
            "layers": [len(report["layers"]), len(struct["layers"])],
            "truncated": infer(channel)(long).parameters["truncated"].int64_param,
            "one layer": sorted(
                MessageToDict(get(message("addnorm.v1.NormStatsRequest")(layer=report["layers"][0]["name"])))
            ),
            "window": refusal(lambda: get(message("addnorm.v1.NormStatsRequest")(window="7h"))),
        }


def break_things(address: str) -> dict[str, Any]:
    """Messages that are wrong in one way each."""

    def changed(change: Callable[[Any], Any]) -> Callable[[], Any]:
        made = request("hello", model="intents")
        change(made)
        return lambda: infer(channel)(made)

    def both(made: Any) -> None:
        made.inputs[0].contents.bytes_contents.append(b"hello")

    def other_field(made: Any) -> None:
        del made.raw_input_contents[:]
        made.inputs[0].contents.fp32_contents.append(1.0)

    def too_large(made: Any) -> None:
        del made.raw_input_contents[:]
        made.inputs[0].CopyFrom(type(made.inputs[0])(name="input_ids", datatype="INT32", shape=[1, 1]))
        made.inputs[0].contents.int_contents.append(-(2**31))

    def long_metadata() -> Any:
        return infer(channel)(request("hello"), metadata=[("x-long", "a" * 17_000)])

    with grpc.insecure_channel(address) as channel:
        cases: dict[str, Callable[[], Any]] = {
            "both": changed(both),
            "entries": changed(lambda made: made.raw_input_contents.append(b"")),
            "field": changed(other_field),
            "id": changed(too_large),
            "shape": changed(lambda made: made.inputs[0].shape.append(-1)),
            "bytes": changed(lambda made: made.raw_input_contents.__setitem__(0, b"\xff\xff\xff\xff")),
            "utf8": changed(lambda made: made.raw_input_contents.__setitem__(0, b"\x01\x00\x00\x00\xff")),
            "nothing": lambda: infer(channel)(InferRequest()),
            "garbage": lambda: channel.unary_unary(f"{SERVICE}/ModelInfer")(b"\xff" * 50),
            "method": lambda: channel.unary_unary(f"{SERVICE}/Nothing")(b""),
            "metadata": lambda: infer(channel)(request("hello"), metadata=[("x-long", "a" * 1_000_000)]),
            "timeout": lambda: infer(channel)(request("hello"), timeout=-1),
            **{f"17 kB, call {call}": long_metadata for call in range(8)},
        }
        found = {name: refusal(case) for name, case in cases.items()}
        found["after"] = refusal(lambda: infer(channel)(request("hello")))
        return found


def keys(address: str, key: str) -> dict[str, Any]:
    """What is refused without a key, and with one."""
    with grpc.insecure_channel(address) as channel:

        def ask(metadata: Metadata) -> dict[str, Any]:
            return refusal(lambda: infer(channel)(request("hello"), metadata=metadata))

        ready = channel.unary_unary(f"{SERVICE}/ServerLive", None, message("inference.ServerLiveResponse").FromString)
        return {
            "none": ask([]),
            "wrong": ask([("x-api-key", "wrong")]),
            "bearer": ask([("authorization", f"Bearer {key}")]),
            "x-api-key": ask([("x-api-key", key)]),
            "live": ready(b"").live,
        }


def secure(address: str, certificate: str, own: str = "", key: str = "") -> dict[str, Any]:
    """Over TLS; with a certificate of the client's own where one is named."""
    shown = (Path(key).read_bytes(), Path(own).read_bytes()) if own else (None, None)
    with grpc.secure_channel(address, grpc.ssl_channel_credentials(Path(certificate).read_bytes(), *shown)) as channel:
        return refusal(lambda: infer(channel)(request("hello"), timeout=20))


def leave(address: str) -> dict[str, Any]:
    """Clients that cancel at once; then one that stays."""
    with grpc.insecure_channel(address) as channel:
        for _ in range(50):
            infer(channel).future(request(*["what is my balance"] * 100)).cancel()
        return refusal(lambda: infer(channel)(request("hello"), timeout=20))


def feed(address: str, path: str) -> list[str]:
    """Labels of the texts of a file, 20 to a request."""
    texts = json.loads(Path(path).read_text())
    found: list[str] = []
    with grpc.insecure_channel(address) as channel:
        for start in range(0, len(texts), 20):
            answer = infer(channel)(request(*texts[start : start + 20], raw=False))
            label = next(output for output in answer.outputs if output.name == "label")
            found += [value.decode() for value in label.contents.bytes_contents]
    return found


def drain(address: str) -> dict[str, int]:
    """Asks without pause for some seconds, while the server is told to stop; how calls ended."""
    ended: dict[str, int] = {}
    until, lock = time.monotonic() + 6, threading.Lock()

    def ask() -> None:
        with grpc.insecure_channel(address) as channel:
            while time.monotonic() < until:
                status = refusal(lambda: infer(channel)(request("hello"), timeout=5))["status"]
                with lock:
                    ended[status] = ended.get(status, 0) + 1
                if status != "OK":
                    return

    threads = [threading.Thread(target=ask) for _ in range(4)]
    print("asking", flush=True)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ended


def follow(address: str) -> dict[str, Any]:
    """A stream that stays open after its answer, and one that follows health, until the server stops."""
    with grpc.insecure_channel(address) as channel:
        hold = threading.Event()

        def requests() -> Iterator[Any]:
            yield request("hello")
            hold.wait(30)

        stream = channel.stream_stream(
            f"{SERVICE}/ModelStreamInfer", InferRequest.SerializeToString, StreamResponse.FromString
        )(requests())
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        statuses = [next(watch).status]
        answered = len(next(stream).infer_response.outputs)
        print("following", flush=True)
        found = {"answered": answered, "stream": refusal(lambda: next(stream))["status"]}
        statuses += [each.status for each in watch]
        hold.set()
        return found | {"statuses": statuses}


def reconnect(address: str, seconds: str, model: str) -> dict[str, Any]:
    """Clients that ask all the time, each over a channel of its own: how calls ended, and when channels connected."""
    ended: dict[str, int] = {}
    connected: list[list[float]] = []
    begun = time.monotonic()

    def ask() -> None:
        times: list[float] = []
        connected.append(times)

        def note(state: grpc.ChannelConnectivity) -> None:
            if state is grpc.ChannelConnectivity.READY:
                times.append(time.monotonic() - begun)

        with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            channel.subscribe(note, try_to_connect=True)
            while time.monotonic() < begun + float(seconds):
                status = refusal(lambda: infer(channel)(request("hello", model=model), timeout=10))["status"]
                ended[status] = ended.get(status, 0) + 1

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"ended": ended, "connected": connected}


if __name__ == "__main__":
    every = (describe, break_things, keys, secure, leave, feed, drain, follow, reconnect)
    asked = {each.__name__: each for each in every}
    print(json.dumps(asked[sys.argv[1]](*sys.argv[2:])))
