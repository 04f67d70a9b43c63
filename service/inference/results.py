"""From a batch to what clients read: labels, deviations from the baseline."""

# R rows, C classes, L norm layers

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
    softmaxed = manifest.activation == "softmax"
    best_scores = batch.scores if softmaxed else probabilities(manifest, batch).max(1).tolist()
    found: list[dict[str, Any]] = []
    for item, best, score in zip(encoded, batch.classes, best_scores, strict=True):
        top = {"label": labels[best], "score": score}
        found.append(top | {"tokens": len(item.tokens), "truncated": item.truncated, "top": [top]})
    if request.top_k > 1:
        for prediction, scores in zip(found, probabilities(manifest, batch), strict=True):
            prediction["top"] = top_labels(labels, scores, request.top_k)
    if request.norm_stats:
        rows = zip(found, deviations(manifest, baseline, batch), baseline.percentiles(batch), strict=True)
        for prediction, row, percentile in rows:
            prediction |= {"norm_stats": row, "percentile": percentile}
    return found


def probabilities(manifest: Manifest, batch: EncodedBatch) -> NDArray[np.float64]:
    """Scores of every class [R, C]; they add up to 1, unless a text may have several labels."""
    return softmax(batch.logits) if manifest.activation == "softmax" else sigmoid(batch.logits)


def relevance(manifest: Manifest, batch: EncodedBatch) -> NDArray[np.float64]:
    """A reranker's score of every pair [R]."""
    logits = batch.logits[:, 0]
    return logits.astype(np.float64) if manifest.activation == "identity" else sigmoid(logits)


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    scores: NDArray[np.float64] = 0.5 * (1 + np.tanh(0.5 * logits.astype(np.float64)))  # overflows nowhere
    return scores


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
