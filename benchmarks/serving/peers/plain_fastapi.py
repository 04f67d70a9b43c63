"""Plain FastAPI + onnxruntime: what people write when they write it themselves. No batcher."""

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.serving.peers.classifier import load, port


class Body(BaseModel):
    inputs: list[str]


class Prediction(BaseModel):
    label: str
    score: float


class Answer(BaseModel):
    predictions: list[Prediction]


app = FastAPI()
classifier = load()


@app.post("/predict")
async def predict(body: Body) -> Answer:
    found = classifier.classify(body.inputs)
    return Answer(predictions=[Prediction(label=label, score=score) for label, score in found])


if __name__ == "__main__":
    uvicorn.run(app, port=port(), access_log=False, log_level="warning")
