"""Asks a server with KServe's gRPC client and prints what it read as JSON; runs in `.clients/kserve`.

Usage: python ask_kserve_grpc.py 127.0.0.1:9000
"""

import asyncio
import json
import sys
from typing import Any

import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest


async def ask(url: str) -> dict[str, Any]:
    async with InferenceGRPCClient(url) as client:
        texts = InferInput("text", [2], "BYTES")
        texts.set_data_from_numpy(np.array([b"what is my balance", b"will it rain"], dtype=object), binary_data=False)
        answer = await client.infer(InferRequest("texts", [texts], request_id="mine"))
        outputs = {output.name: output.as_numpy() for output in answer.outputs}
        return {
            "live": await client.is_server_live(),
            "ready": await client.is_server_ready(),
            "model": await client.is_model_ready("texts"),
            "id": answer.id,
            "label": [label.decode() if isinstance(label, bytes) else label for label in outputs["label"].tolist()],
            "logits": outputs["logits"].tolist(),
        }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(ask(sys.argv[1]))))
