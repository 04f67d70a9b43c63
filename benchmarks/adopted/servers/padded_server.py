"""Plain FastAPI + onnxruntime over padded batches. `python -m benchmarks.adopted.servers.padded_server MODEL ONNX PORT`

No batcher. The optimization that is slow on a CPU is off, as in the served graph (runtime/graph/session.py).
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from numpy.typing import NDArray
from pydantic import BaseModel
from tokenizers import Tokenizer

MAX_TOKENS = 512


class Body(BaseModel):
    inputs: list[str]


source, graph, port = sys.argv[1:]
tokenizer = Tokenizer.from_file(str(Path(source) / "tokenizer.json"))
tokenizer.enable_truncation(MAX_TOKENS)
tokenizer.enable_padding()
options = ort.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = ort.InferenceSession(
    graph, options, providers=["CPUExecutionProvider"], disabled_optimizers=["SkipLayerNormFusion"]
)
app = FastAPI()


def embeddings(texts: list[str]) -> NDArray[Any]:
    """Mean over the tokens of each text, of length one."""
    encodings = tokenizer.encode_batch(texts)
    ids = np.array([encoding.ids for encoding in encodings])
    mask = np.array([encoding.attention_mask for encoding in encodings])
    weights = mask[..., None].astype(np.float32)
    feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    (hidden,) = session.run(["hidden"], feeds)
    mean = (hidden * weights).sum(1) / weights.sum(1)
    return np.asarray(mean / np.linalg.norm(mean, axis=1, keepdims=True))


@app.post("/embed")
async def embed(body: Body) -> JSONResponse:
    return JSONResponse({"embeddings": embeddings(body.inputs).tolist()})


if __name__ == "__main__":
    uvicorn.run(app, port=int(port), access_log=False, log_level="warning")
