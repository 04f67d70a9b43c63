"""An adopted encoder in lower precision, measured on the user's texts; refused where it answers otherwise."""

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from export.adopt.baseline import Progress, in_runs, run_all
from export.adopt.texts import Texts
from export.adopt.writing import accuracy, probes_of
from export.precision.lower import (
    SAMPLES,
    alone,
    check_loss,
    convert,
    cosines,
    lower_graph,
    measure,
    with_measured,
)
from export.precision.tolerances import COSINES, TOLERANCES, Cosines
from export.timing import graph_speeds, with_plan
from runtime.artifact import Artifact
from runtime.errors import ExportError
from runtime.graph.batch import EncodedBatch, join, unit
from runtime.graph.encoder import Encoder
from runtime.graph.packing import Tokens
from runtime.precision import LowPrecision

MOST = 0.999  # of the tokens
NEAREST, QUERIES = 10, 2000  # texts near another one, and of how many that is looked at


def lower_adopted(
    artifact: Artifact,
    kind: LowPrecision,
    texts: Texts,
    sequences: Sequence[Tokens],
    progress: Progress,
    least: Cosines | None = None,
    others: Sequence[Tokens] | None = None,
) -> Artifact:
    """`artifact`, a verified one in float32, in lower precision.

    Args:
        sequences: the texts, as the graph takes them.
        least: cosines between vectors and those of float32; None: by precision.
        others: texts that nothing is measured on, to fix the ranges of int8 by; None: some of `sequences`.

    Raises:
        ExportError: vectors are turned too far, statistics moved too far, labels are lost, or an answer depends on
            what it is packed with.
    """
    original = Encoder(artifact)
    lowered = convert(artifact, kind, original, samples(sequences, others) if kind == "int8" else [], fine=True)
    lowered = with_plan(lowered, probes_of(sequences))
    encoder = Encoder(lowered)
    rows, lowered_rows = (run_all(graph, sequences, progress) for graph in (original, encoder))
    before, after, apart = join(rows), join(lowered_rows), alone(encoder, sequences)
    least = least or COSINES[kind]
    check_alone(after, apart, kind, least)
    check_statistics(before, after, kind)
    if artifact.manifest.task == "rerank":
        check_logits(before, after, kind)
    measured = measure(lowered, before, after, apart) | cosines(before, after, kind, least)
    if artifact.manifest.task == "embedding":
        measured["recall"] = recall(before.embedding, after.embedding)
    found = [accuracy(artifact.manifest, texts.labels, answers) for answers in (rows, lowered_rows)]
    if found[0] is not None and found[1] is not None:
        check_loss(found[0] - found[1], kind, len(sequences), "accuracy on the texts")
        measured["accuracy"] = dict(zip(("fp32", kind), found, strict=True))
    measured["speed"] = graph_speeds({"fp32": original, kind: encoder}, sequences)[kind]
    return with_measured(lowered, measured)


def lower_deep(
    both: onnx.ModelProto,
    artifact: Artifact,
    kind: LowPrecision,
    sequences: Sequence[Tokens],
    others: Sequence[Tokens] | None = None,
) -> onnx.ModelProto:
    """`both`, the graph with all outputs, lowered as that of `artifact` was: so the deep graph shares its weights."""
    return lower_graph(both, kind, Encoder(artifact), samples(sequences, others) if kind == "int8" else [], fine=True)


def samples(sequences: Sequence[Tokens], others: Sequence[Tokens] | None = None) -> list[list[Tokens]]:
    """Runs to fix the ranges of int8 by: of `others`, where there are some that nothing is measured on; else of every
    second text at most, so that what is measured tells of texts that were not seen, too."""
    count = min(SAMPLES, (len(sequences) + 1) // 2) if others is None else min(SAMPLES, len(others))
    sequences = sequences if others is None else others
    chosen = [sequences[place] for place in np.linspace(0, len(sequences) - 1, count).astype(int)]
    return [[chosen[place] for place in run] for run in in_runs(range(count), [len(tokens) for tokens in chosen])]


def recall(before_RD: NDArray[np.float32], after_RD: NDArray[np.float32]) -> float | None:
    """Share of a text's ten nearest among the texts that are the same by both's vectors; None of too few texts."""
    if len(before_RD) <= NEAREST:
        return None
    queries = np.linspace(0, len(before_RD) - 1, min(QUERIES, len(before_RD))).astype(int)
    before, after = unit(before_RD), unit(after_RD)
    return float(np.mean([len(nearest(before, query) & nearest(after, query)) / NEAREST for query in queries]))


def nearest(unit_RD: NDArray[np.float32], query: int) -> set[int]:
    """The places of the ten nearest to that one, itself left out."""
    distance_R = -(unit_RD @ unit_RD[query])
    distance_R[query] = np.inf
    return set(np.argpartition(distance_R, NEAREST - 1)[:NEAREST].tolist())


def check_alone(after: EncodedBatch, apart: EncodedBatch, kind: LowPrecision, limits: Cosines) -> None:
    """Refuses a graph whose answer to a text depends on what it is packed with."""
    least = limits[1]
    packed = after.embedding[: len(apart.lengths)]
    worst = float(np.vecdot(unit(packed), unit(apart.embedding)).min())
    logits = np.abs(after.logits[: len(apart.lengths)] - apart.logits).max(initial=0.0)
    if COSINES[kind][1] <= worst < least:  # it would do without the user's own least one
        raise ExportError(
            f"In {kind} a text packed with others has a cosine of {worst:.8f} with the same alone, and --min-cosine "
            f"asks for {least:.8g} at worst: lower it, or adopt it in another precision. Nothing was written."
        )
    if not (worst >= least and logits <= TOLERANCES[kind].alone):
        raise ExportError(
            f"In {kind} a text packed with others differs from the same alone, by up to {logits:.2g} in a logit and "
            f"with a cosine of {worst:.5f}: adopt it in another precision. Nothing was written."
        )


def check_logits(before: EncodedBatch, after: EncodedBatch, kind: LowPrecision) -> None:
    """Refuses a reranker whose scores moved too far: no labels and no cosine tell of them."""
    moved = float(np.abs(after.logits - before.logits).max())
    if not moved <= TOLERANCES[kind].logits:
        raise ExportError(
            f"In {kind} the score of a pair moved by {moved:.2g}, more than {TOLERANCES[kind].logits:g}: adopt it in "
            "another precision. Nothing was written."
        )


def check_statistics(before: EncodedBatch, after: EncodedBatch, kind: LowPrecision) -> None:
    """Refuses statistics of tokens that lie too far from those of float32, at any norm.

    One token in a thousand may: norms with a few huge features magnify what is rounded, and texts have many tokens.
    """
    old, new = (batch.norm_statistics.astype(np.float64) for batch in (before, after))
    inv_std = old[:, 1::2]
    errors = {
        "means": np.abs(new[:, 0::2] - old[:, 0::2]) * inv_std,
        "inverse deviations": np.abs(new[:, 1::2] / inv_std - 1),
    }
    for name, values in errors.items():
        worst = float(np.quantile(values, MOST, axis=0).max(initial=0.0))
        if not worst <= TOLERANCES[kind].statistics:
            raise ExportError(
                f"In {kind} the {name} of tokens differ from those of float32 by {worst:.2e}, more than "
                f"{TOLERANCES[kind].statistics:g}: adopt it in another precision. Nothing was written."
            )
