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

MANY = 500  # classes from which on the best are found before they are sorted


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
        ranked = zip(
            found, best_first(batch.logits, request.top_k).tolist(), probabilities(manifest, batch), strict=True
        )
        for prediction, places, scores in ranked:
            prediction["top"] = [{"label": labels[place], "score": float(scores[place])} for place in places]
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


def best_first(logits: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """The `count` most probable classes of every row [R, K], the most probable first.

    By logits, of which fewer are equal than of probabilities: so the first is the class that is counted, too. Of equal
    ones the first comes first.
    """
    rows, classes = logits.shape
    if classes >= MANY and 4 * count < classes:  # sorting all of them would take longer than the rest of an answer
        least_R = -np.partition(-logits, count - 1, axis=1)[:, count - 1]
        if np.isfinite(least_R).all():
            order_RK = np.empty((rows, count), dtype=np.int64)
            for row, (values, least) in enumerate(zip(logits, least_R, strict=True)):
                places = np.flatnonzero(values >= least)
                order_RK[row] = places[np.argsort(-values[places], kind="stable")[:count]]
            return order_RK
    sorted_RK: NDArray[np.int64] = np.argsort(-logits, axis=1, kind="stable")[:, :count]
    return sorted_RK


def norm_means(manifest: Manifest, batch: EncodedBatch) -> NDArray[np.float64]:
    """Mean and variance at every norm, averaged over each row's tokens [R, 2L]."""
    return row_means(token_values(batch.norm_statistics, manifest.layers), batch.lengths)


def deviations(manifest: Manifest, baseline: Baseline, batch: EncodedBatch) -> list[list[dict[str, Any]]]:
    """How far each row's tokens are from the baseline, as `service.schemas.inference.LayerDeviation` describes it.

    Raises:
        InvalidInput: a variance is not finite.
    """
    means = norm_means(manifest, batch)
    check_rows(np.isfinite(means.sum(1)).tolist())  # of an input far out, a norm's 1/sigma may be 0
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
        check_rows([not isnan(score) for score in batch.scores])


def check_rows(finite: list[bool]) -> None:
    if not all(finite):
        row = finite.index(False)
        raise InvalidInput(
            "not_finite", f"inputs[{row}] overflows the model, expected values like the training data's."
        )
