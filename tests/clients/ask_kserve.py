"""Asks a server with KServe's client and prints what it read as JSON; runs in `.clients/kserve`.

Usage: python ask_kserve.py http://127.0.0.1:8000
"""

import asyncio
import json
import sys
from typing import Any

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig


async def ask(url: str) -> dict[str, Any]:
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
        found: dict[str, Any] = {
            "live": await client.is_server_live(url),
            "ready": await client.is_server_ready(url),
            "models": [await client.is_model_ready(url, name) for name in ("texts", "signals", "nope")],
        }
        texts = InferInput("text", [2], "BYTES")
        texts.set_data_from_numpy(np.array(["hi", "will it rain"], dtype=object), binary_data=False)
        answer = await client.infer(url, InferRequest("texts", [texts], request_id="mine"), model_name="texts")
        found["id"] = answer.id
        found["texts"] = {output.name: output.as_numpy().tolist() for output in answer.outputs}

        features = InferInput("features", [2, 3, 4], "FP32")
        features.set_data_from_numpy(np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 3, 4), binary_data=True)
        request = InferRequest("signals", [features], parameters={"binary_data_output": True})
        answer = await client.infer(url, request, model_name="signals")
        found["signals"] = {output.name: output.as_numpy().tolist() for output in answer.outputs}

        plain = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["hi"]}]}
        answer = await client.infer(url, plain, model_name="texts")
        found["plain"] = [output.name for output in answer.outputs]
        try:
            await client.infer(url, {"inputs": []}, model_name="texts")
        except httpx.HTTPStatusError as error:
            found["error"] = str(error)
        return found


if __name__ == "__main__":
    print(json.dumps(asyncio.run(ask(sys.argv[1]))))
