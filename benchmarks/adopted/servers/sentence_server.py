"""Plain FastAPI + sentence-transformers. `python -m benchmarks.adopted.servers.sentence_server MODEL PORT`"""

import sys

import torch
import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer


class Body(BaseModel):
    inputs: list[str]


torch.set_num_threads(1)
model = SentenceTransformer(sys.argv[1], device="cpu")
app = FastAPI()


@app.post("/embed")
def embed(body: Body) -> JSONResponse:
    return JSONResponse({"embeddings": model.encode(body.inputs, batch_size=32, show_progress_bar=False).tolist()})


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[2]), access_log=False, log_level="warning")
