"""`addnorm export` of a run that began with a pretrained encoder: exported as adopted ones are, judged by class."""

from pathlib import Path
from typing import Any

import numpy as np

from export.adopt.baseline import Progress, run_all
from export.adopt.directory.adopter import PACKAGES, make_graphs, network_facts
from export.adopt.texts import Texts
from export.adopt.writing import begin, encode, finish
from export.calibrate import calibrate
from export.precision.choice import Asked
from export.precision.lower import SAMPLES
from export.timing import with_manifest
from model.data import Dataset, Split
from model.finetuning.checkpoint import FineTunedRun, input_encoder
from model.network.encoder import count_parameters
from runtime.artifact import Artifact
from runtime.graph.encoder import Encoder


def export_fine_tuned(
    run: FineTunedRun,
    dataset: Dataset,
    target: Path,
    overwrite: bool,
    asked: Asked,
    progress: Progress = lambda _done, _of: None,
) -> tuple[Artifact, dict[str, float]]:
    """Exports the best weights of a run as the artifact `target`; the baseline is what the run held out.

    Returns:
        The artifact, and the largest error of each kind between graph and PyTorch.

    Raises:
        DataError, ExportError: the graph does not agree with PyTorch, or lower precision changes its answers too much.
        ArtifactError: the artifact cannot be written.
    """
    network, texts = run.model.network, baseline_texts(dataset)
    temperature = calibrate(run.model, dataset.validation, input_encoder(run.source), run.source.pooling)
    artifact = begin(
        run.source,
        texts,
        target,
        PACKAGES,
        **network_facts(network),
        training=training_facts(run) | {"temperature": temperature},
    )
    sequences, others = encode(artifact, texts), encode(artifact, sample_texts(dataset))
    artifact, errors = make_graphs(artifact, network, texts, sequences, asked, progress, others)
    artifact = with_manifest(artifact, training=artifact.manifest.training | accuracies(artifact, dataset))
    adopted = finish(artifact, texts.labels, sequences, errors, overwrite, progress)
    return adopted.artifact, adopted.errors


def baseline_texts(dataset: Dataset) -> Texts:
    split = dataset.held_out
    return Texts([str(text) for text in split.inputs], [dataset.labels[label] for label in split.labels])


def sample_texts(dataset: Dataset) -> Texts:
    """Training texts to fix the ranges of int8 by: what is held out stays for judging them."""
    rows = np.linspace(0, len(dataset.train) - 1, min(SAMPLES, len(dataset.train))).astype(int)
    return Texts([str(dataset.train.inputs[row]) for row in rows], None)


def accuracies(artifact: Artifact, dataset: Dataset) -> dict[str, float | None]:
    """Those on validation and test through the graph that is served."""
    encoder = Encoder(artifact)
    return {
        "validation_accuracy": accuracy(artifact, encoder, dataset.validation),
        "test_accuracy": accuracy(artifact, encoder, dataset.test) if len(dataset.test) else None,
    }


def accuracy(artifact: Artifact, encoder: Encoder, split: Split) -> float:
    rows = run_all(encoder, encode(artifact, Texts([str(text) for text in split.inputs], None)), lambda *_: None)
    answers = np.array([row.classes[0] for row in rows])
    return float((answers == split.labels).mean())


def training_facts(run: FineTunedRun) -> dict[str, Any]:
    """What the manifest tells about how the model was made, but for its accuracies."""
    return {
        "dataset": Path(run.info.dataset).name,
        "source": run.info.source,
        "architecture": run.source.model_type,
        "pretrained": run.info.pretrained.directory,
        "source_sha256": run.info.pretrained.sha256,
        "parameters": count_parameters(run.model),
        "epoch": run.facts["epoch"],
        "teachers": 0,
        "recipe": run.info.recipe.model_dump(),
    }
