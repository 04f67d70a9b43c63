"""Requests of the protocol, as bytes."""

import json
from typing import Any

from httpx2 import Response
from starlette.testclient import TestClient

HEADER = "Inference-Header-Content-Length"
INFER = "/v2/models/texts/infer"
FEATURES = "/v2/models/signals/infer"


def tensor(name: str, shape: list[int], datatype: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "shape": shape, "datatype": datatype, **more}


def text(*texts: str) -> dict[str, Any]:
    return tensor("text", [len(texts)], "BYTES", data=list(texts))


def binary(name: str, shape: list[int], datatype: str, size: int) -> dict[str, Any]:
    return tensor(name, shape, datatype, parameters={"binary_data_size": size})


def elements(*texts: bytes) -> bytes:
    return b"".join(len(element).to_bytes(4, "little") + element for element in texts)


def ask(client: TestClient, path: str, *inputs: dict[str, Any], **more: Any) -> Response:
    return client.post(path, json={"inputs": list(inputs), **more})


def ask_binary(client: TestClient, path: str, tail: bytes, *inputs: dict[str, Any], **more: Any) -> Response:
    head = json.dumps({"inputs": list(inputs), **more}).encode()
    return client.post(path, content=head + tail, headers={HEADER: str(len(head))})


def outputs(response: Response) -> dict[str, Any]:
    """The JSON data of an answer, by name."""
    assert response.status_code == 200, response.text
    return {output["name"]: output["data"] for output in response.json()["outputs"]}
