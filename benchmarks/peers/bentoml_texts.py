"""BentoML: one worker, no metrics, tracing and access log; with adaptive batching and without. For `bentoml serve`.

Its batching learns how long to wait from the load that was, and unlearns it within seconds: right after a heavy load, a
single client waits in vain.
"""

from typing import Any

import bentoml

from benchmarks.peers.classifier import load

QUIET: dict[str, Any] = {
    "workers": 1,
    "metrics": {"enabled": False},
    "logging": {"access": {"enabled": False}},
    "tracing": {"sample_rate": 0.0},
}


@bentoml.service(**QUIET)
class Batching:
    def __init__(self) -> None:
        self.classifier = load()

    @bentoml.api(batchable=True, max_batch_size=32)
    async def predict(self, inputs: list[str]) -> list[dict[str, Any]]:
        return [{"label": label, "score": score} for label, score in self.classifier.classify(inputs)]


@bentoml.service(**QUIET)
class Alone:
    def __init__(self) -> None:
        self.classifier = load()

    @bentoml.api
    async def predict(self, inputs: list[str]) -> list[dict[str, Any]]:
        return [{"label": label, "score": score} for label, score in self.classifier.classify(inputs)]
