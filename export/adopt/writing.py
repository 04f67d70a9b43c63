"""What adopting a directory and adopting a file have in common: a manifest, a baseline, and an artifact on disk."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.adopt.baseline import Progress, fit_baseline, look_deep, run_all
from export.adopt.parity import Expected, check_expected
from export.adopt.texts import Texts
from model.pretrained.text_model import TextModel
from runtime.artifact import Artifact, write_artifact
from runtime.errors import DataError, InvalidInput
from runtime.graph.batch import EncodedBatch
from runtime.graph.deep import DeepGraph
from runtime.graph.packing import Tokens
from runtime.graph.tensor_graph import open_encoder
from runtime.graph.texts import make_input_encoder
from runtime.manifest import BASELINE, TOKENIZER, Manifest

PROBES = 64  # texts that parity and speed are measured with


@dataclass(frozen=True, slots=True)
class Adopted:
    """What came of it.

    Attributes:
        errors: the largest error of each kind between the graph that is served and what was adopted.
        accuracy: share of the labelled texts that the model labels so; None where there are no labels.
    """

    artifact: Artifact
    errors: dict[str, float]
    accuracy: float | None


def check_pairs(model: TextModel, texts: Texts) -> None:
    """Refuses texts of another form than the model reads, and a model without room for them."""
    if model.task == "rerank" and not texts.pairs:
        raise DataError(
            "A model with one label is served as a reranker, which reads pairs of texts: name the column of the second "
            "text with --text-pair."
        )
    if model.task == "embedding" and texts.pairs:
        raise DataError("An embedding model reads single texts: leave --text-pair out.")
    model.check_room(texts.pairs)


def begin(model: TextModel, texts: Texts, target: Path, packages: Sequence[str], **others: Any) -> Artifact:
    """An artifact with a manifest and a tokenizer, and nothing else yet.

    Args:
        packages: those that make the graph.
        others: fields of the manifest that `model` and `texts` do not know.
    """
    manifest = Manifest(
        **made(target, packages),
        task=model.task,
        labels=model.labels if model.task == "classification" else [],
        activation=model.activation,
        normalize=model.normalize,
        inputs=model.inputs(texts.pairs),
        **others,
    )
    return Artifact(target, manifest, {TOKENIZER: model.tokenizer.to_str().encode()})


def made(target: Path, packages: Sequence[str]) -> dict[str, Any]:
    """What a manifest says of how its artifact came to be: its name, when, and by which packages."""
    return {
        "name": target.parent.name,
        "version": target.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "producer": {package: version(package) for package in packages},
        "files": {},
    }


def encode(artifact: Artifact, texts: Texts) -> list[Tokens]:
    try:
        return [item.tokens for item in make_input_encoder(artifact).encode(texts.inputs)]
    except InvalidInput as error:
        raise DataError(f"The baseline's {str(error).removesuffix('.')} (counted from 0).") from error


def probes_of(sequences: Sequence[Tokens]) -> list[Tokens]:
    """A few of the sequences, the shortest and the longest among them."""
    ordered = sorted(sequences, key=len)
    return [*sequences[:PROBES], ordered[0], ordered[-1]]


def canary_probes(sequences: Sequence[Tokens]) -> list[Tokens]:
    """What is run at every start: two short sequences and the first two."""
    return [*sorted(sequences, key=len)[:2], *sequences[:2]]


def make_canary(sequences: Sequence[Tokens], expected: Expected) -> bytes:
    """A few of the texts, with the answers and statistics that are expected for them."""
    check_expected(expected)
    answers = {name: values.tolist() for name, values in expected.answers.items()}
    content = {"inputs": [sequence.tolist() for sequence in sequences], **answers}
    content["norm_statistics"] = expected.norm_statistics.tolist()
    return json.dumps(content, separators=(",", ":")).encode()


def finish(
    artifact: Artifact,
    labels: list[str] | None,
    sequences: Sequence[Tokens],
    errors: dict[str, float],
    overwrite: bool,
    progress: Progress,
) -> Adopted:
    """Measures the baseline with the graphs of `artifact`, and writes it all.

    Args:
        labels: the class of each sequence, where the user's file has them.
    """
    encoder = open_encoder(artifact)
    rows = run_all(encoder, sequences, progress)
    deep = DeepGraph.of(artifact, encoder)
    right = rightness(artifact.manifest, labels, rows)
    artifact, baseline = fit_baseline(artifact, rows, right)
    if deep is not None:
        baseline = replace(baseline, deep=look_deep(deep, sequences))
    measured = accuracy(artifact.manifest, labels, rows)
    facts = artifact.manifest.training | {"texts": len(sequences), "parity": errors, "accuracy": measured}
    manifest = artifact.manifest.model_copy(update={"training": facts})
    files = artifact.files | {BASELINE: baseline.to_json()}
    return Adopted(write_artifact(artifact.path, manifest, files, overwrite), errors, measured)


def rightness(manifest: Manifest, labels: list[str] | None, rows: Sequence[EncodedBatch]) -> NDArray[np.bool_] | None:
    """Which of the texts the model labels as the file does; None where the file does not say."""
    if labels is None or manifest.task != "classification":
        return None
    if unknown := sorted(set(labels) - set(manifest.labels)):
        some = ", ".join(manifest.labels[:5]) + (", ..." if len(manifest.labels) > 5 else "")
        raise DataError(f"The model has no label {unknown[0]!r}, it has {some}: mend the file, or leave --label out.")
    return np.array([manifest.labels[row.classes[0]] == label for row, label in zip(rows, labels, strict=True)])


def accuracy(manifest: Manifest, labels: list[str] | None, rows: Sequence[EncodedBatch]) -> float | None:
    """Share of the texts that the model labels as the file does; None where the file does not say."""
    right = rightness(manifest, labels, rows)
    return None if right is None else float(right.mean())
