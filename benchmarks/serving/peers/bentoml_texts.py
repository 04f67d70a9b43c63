"""BentoML: one worker, no adaptive batching, metrics, tracing and access log. For `bentoml serve`."""

from typing import Any

import bentoml

from benchmarks.serving.peers.classifier import load


@bentoml.service(
    workers=1,
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
    tracing={"sample_rate": 0.0},
)
class Texts:
    def __init__(self) -> None:
        self.classifier = load()

    @bentoml.api
    async def predict(self, inputs: list[str]) -> list[dict[str, Any]]:
        return [{"label": label, "score": score} for label, score in self.classifier.classify(inputs)]
