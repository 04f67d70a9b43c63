"""From a batch to what clients read: labels, deviations from the baseline, unit vectors."""

# R rows, C classes, D d_model, L norm layers

from math import isnan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.drift.baseline import Baseline
from runtime.errors import InvalidInput
from runtime.graph.batch import EncodedBatch, row_means, softmax, token_values
from runtime.graph.inputs import EncodedInput
from runtime.manifest import Manifest
from service.schemas.inference import PredictRequest


def predictions(
    manifest: Manifest, baseline: Baseline, encoded: list[EncodedInput], batch: EncodedBatch, request: PredictRequest
) -> list[dict[str, Any]]:
    """The answer to a request, as `service.schemas.inference.Prediction` describes it."""
    labels = manifest.labels
    found: list[dict[str, Any]] = []
    for item, best, score in zip(encoded, batch.classes, batch.scores, strict=True):
        top = {"label": labels[best], "score": score}
        found.append(top | {"tokens": len(item.tokens), "truncated": item.truncated, "top": [top]})
    if request.top_k > 1:
        for prediction, probabilities in zip(found, softmax(batch.logits), strict=True):
            prediction["top"] = top_labels(labels, probabilities, request.top_k)
    if request.norm_stats:
        for prediction, row in zip(found, deviations(manifest, baseline, batch), strict=True):
            prediction["norm_stats"] = row
    return found


def top_labels(labels: list[str], probabilities: NDArray[np.float64], count: int) -> list[dict[str, Any]]:
    """The `count` most probable labels of one row [C], the most probable first."""
    best = np.argsort(-probabilities, kind="stable")[:count]
    return [{"label": labels[i], "score": float(probabilities[i])} for i in best]


def norm_means(manifest: Manifest, batch: EncodedBatch) -> NDArray[np.float64]:
    """Mean and variance at every norm, averaged over each row's tokens [R, 2L]."""
    return row_means(token_values(batch.norm_statistics, manifest.layers), batch.lengths)


def deviations(manifest: Manifest, baseline: Baseline, batch: EncodedBatch) -> list[list[dict[str, Any]]]:
    """How far each row's tokens are from the baseline, as `service.schemas.inference.LayerDeviation` describes it."""
    means = norm_means(manifest, batch)
    scores = baseline.z_scores(means)
    return [
        [
            {
                "name": layer.name,
                "mean": row[2 * i],
                "variance": row[2 * i + 1],
                "mean_z": z[2 * i],
                "variance_z": z[2 * i + 1],
            }
            for i, layer in enumerate(manifest.layers)
        ]
        for row, z in zip(means.tolist(), scores.tolist(), strict=True)
    ]


def check_finite(batch: EncodedBatch) -> None:
    """Raises InvalidInput where a row overflowed the model."""
    if isnan(sum(batch.scores)):
        row = [isnan(score) for score in batch.scores].index(True)
        raise InvalidInput(
            "not_finite", f"inputs[{row}] overflows the model, expected values like the training data's."
        )


def unit(embedding_RD: NDArray[np.float32]) -> NDArray[np.float32]:
    """The rows at length 1, so that their dot products are cosines; a row of zeros stays as it is."""
    lengths = np.linalg.norm(embedding_RD.astype(np.float64), axis=1, keepdims=True)
    return (embedding_RD / np.where(lengths, lengths, 1.0)).astype(np.float32)
