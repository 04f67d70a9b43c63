"""Writes the answers of a model as JSON: labels are encoded once, and the numbers of a request all at a time."""

# R rows, C classes, K labels of an answer

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_json

from runtime.drift.baseline import Baseline
from runtime.graph.batch import EncodedBatch
from runtime.graph.inputs import EncodedInput
from runtime.manifest import Manifest
from service.inference.results import best_first, deviations, probabilities
from service.schemas.inference import PredictRequest

TRUNCATED = {False: b"false", True: b"true"}


class PredictionWriter:
    """The answers to /predict of one model, as `service.schemas.inference.PredictResponse` describes them."""

    def __init__(self, manifest: Manifest, baseline: Baseline) -> None:
        self.manifest, self.baseline = manifest, baseline
        self.softmaxed = manifest.activation == "softmax"
        self.head = to_json({"model": manifest.name, "version": manifest.version})[:-1] + b',"predictions":['
        self.labels = [b'{"label":%b,"score":' % to_json(label) for label in manifest.labels]
        self.next_labels = [b"}," + label for label in self.labels]

    def write(self, encoded: list[EncodedInput], batch: EncodedBatch, request: PredictRequest) -> bytes:
        """A request's answer.

        Raises:
            InvalidInput: a number of it is not finite.
        """
        if self.softmaxed and request.top_k == 1:
            labels, scores = self.labels, to_json(batch.scores)[1:-1].split(b",")
            tops = bests = [labels[place] + score for place, score in zip(batch.classes, scores, strict=True)]
        else:
            bests, tops = self.ranked(batch, request.top_k)
        rows = [
            b'%b,"tokens":%d,"truncated":%b,"top":[%b}]' % (best, len(item.tokens), TRUNCATED[item.truncated], top)
            for item, best, top in zip(encoded, bests, tops, strict=True)
        ]
        if request.norm_stats:
            details = zip(
                deviations(self.manifest, self.baseline, batch), self.baseline.percentiles(batch), strict=True
            )
            rows = [
                b'%b,"norm_stats":%b,"percentile":%b' % (row, to_json(layers), to_json(percentile))
                for row, (layers, percentile) in zip(rows, details, strict=True)
            ]
        return b"%b%b}]}" % (self.head, b"},".join(rows))

    def ranked(self, batch: EncodedBatch, count: int) -> tuple[list[bytes], list[bytes]]:
        """Of every row the best label, and the `count` best ones, the most probable first, each with its score."""
        order_RK = best_first(batch.logits, count)
        scores = number_rows(probabilities(self.manifest, batch)[np.arange(len(order_RK))[:, None], order_RK])
        first, labels = self.labels, self.next_labels
        bests, tops = [], []
        for places, numbers in zip(order_RK.tolist(), scores, strict=True):
            parts = [b""] * (2 * len(places))
            parts[::2], parts[1::2] = [labels[place] for place in places], numbers
            parts[0] = first[places[0]]
            bests.append(parts[0] + parts[1])
            tops.append(b"".join(parts))
        return bests, tops


def number_rows(values_RK: NDArray[Any]) -> list[list[bytes]]:
    """Each number as JSON has it."""
    return [row.split(b",") for row in to_json(values_RK.tolist())[2:-2].split(b"],[")]
