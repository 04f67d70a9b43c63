"""The baseline of an adopted encoder: the user's texts through the graph that will be served."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from export.adopt.clusters import FEWEST, fit_clusters, split, to_bytes
from export.reference import MOST_INSTABILITY, fit_reference
from export.timing import with_manifest
from runtime.artifact import Artifact
from runtime.drift.baseline import Baseline
from runtime.drift.detector import Reference
from runtime.drift.numbers import request_features
from runtime.errors import ExportError
from runtime.graph.batch import EncodedBatch, join, row_means, token_values
from runtime.graph.clusters import Clusters
from runtime.graph.deep import DeepGraph
from runtime.graph.encoder import Encoder
from runtime.graph.packing import Tokens
from runtime.manifest import CLUSTERS
from runtime.statistics.deep import DeepState, measure_all
from runtime.statistics.moments import Moments
from runtime.statistics.recorder import NormRecorder

BATCH = 32  # texts in a run
BATCH_TOKENS = 1024  # in a run: of long texts, attention would take gigabytes
DEEP_TOKENS = 256  # in a run of the deep graph, which gives every feature of every norm

Progress = Callable[[int, int], None]  # texts done, of how many


def run_all(encoder: Encoder, sequences: Sequence[Tokens], progress: Progress) -> list[EncodedBatch]:
    """What the graph gives for each text, in their order. Texts of like lengths run together."""
    order = sorted(range(len(sequences)), key=lambda place: len(sequences[place]))
    rows: dict[int, EncodedBatch] = {}
    for places in in_runs(order, [len(sequence) for sequence in sequences]):
        batch = encoder.run([sequences[place] for place in places])
        rows |= zip(places, batch.split([1] * len(places)), strict=True)
        progress(len(rows), len(order))
    return [rows[place] for place in range(len(order))]


def in_runs(order: Sequence[int], lengths: Sequence[int], most: int = BATCH_TOKENS) -> Iterator[list[int]]:
    """The places, in their order, in runs of up to BATCH texts and `most` tokens; a longer text runs alone."""
    run: list[int] = []
    tokens = 0
    for place in order:
        if run and (len(run) == BATCH or tokens + lengths[place] > most):
            yield run
            run, tokens = [], 0
        run.append(place)
        tokens += lengths[place]
    yield run


def look_deep(deep: DeepGraph, sequences: Sequence[Tokens]) -> DeepState:
    """What the deep graph sees of the texts."""
    order = sorted(range(len(sequences)), key=lambda place: len(sequences[place]))
    looks = DeepState.empty(deep.layers)
    for places in in_runs(order, [len(sequence) for sequence in sequences], DEEP_TOKENS):
        looks = looks.merge(measure_all(deep.run, deep.batches([sequences[place] for place in places])))
    return looks


def fit_baseline(
    artifact: Artifact, rows: Sequence[EncodedBatch], right: NDArray[np.bool_] | None = None
) -> tuple[Artifact, Baseline]:
    """The baseline, and the artifact with what drift is conditioned on where the model has no classes.

    Args:
        right: whether the model's class of each row is the right one, where that is known.

    Raises:
        ExportError: a text overflows the model, or its numbers what a baseline holds.
    """
    layers = artifact.manifest.layers
    recorder, means = NormRecorder(layers), Moments.empty(2 * len(layers))
    for row in rows:
        recorder.observe(row)
        values = row_means(token_values(row.norm_statistics, layers), row.lengths)
        means = means.merge(Moments.of(values, np.isfinite(values)))
    state = recorder.state()
    if (state.moments.count != state.tokens).any():
        raise ExportError("The texts give NaN or infinite norm statistics: nothing was written.")
    artifact, reference = fit_drift(artifact, join(rows), right)
    check_reference(reference)
    return artifact, Baseline(state, means, reference)


def check_reference(reference: Reference | None) -> None:
    """Refuses what JSON cannot hold: a reference is kept in float32, and has squares of logits and statistics."""
    try:
        with np.errstate(over="ignore"):
            json.dumps(reference and reference.to_dict(), allow_nan=False)
    except ValueError:
        raise ExportError(
            "The texts give logits or norm statistics that are too large for a baseline (their squares overflow "
            "float32): nothing was written, scale the weights of the head or of the norms down."
        ) from None


def fit_drift(
    artifact: Artifact, texts: EncodedBatch, right: NDArray[np.bool_] | None
) -> tuple[Artifact, Reference | None]:
    """What drift is judged by; None where the texts are too few."""
    if artifact.manifest.task == "classification":
        return artifact, fit_reference(*request_features(texts), artifact.manifest.num_classes, right)
    if len(texts.lengths) < FEWEST:
        return artifact, None
    first, second = split(len(texts.lengths))
    centroids = fit_clusters(texts.embedding[first], texts.embedding[second])
    found = Clusters(centroids).assign(texts.embedding)
    features, clusters = request_features(replace(texts, **found._asdict()))
    files = artifact.files | {CLUSTERS: to_bytes(centroids)}
    artifact = with_manifest(replace(artifact, files=files), clusters=len(centroids))
    # A cluster is wider than a class, and its texts are mixed otherwise from one topic to the next.
    reference = fit_reference(features[second], clusters[second], len(centroids), instability=MOST_INSTABILITY)
    return artifact, reference
