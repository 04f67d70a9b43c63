"""`addnorm export` of a run that began with a pretrained encoder: exported as adopted ones are, judged by class."""

from pathlib import Path
from typing import Any

from export.adopt.baseline import Progress
from export.adopt.directory.adopter import PACKAGES, make_graphs, network_facts
from export.adopt.texts import Texts
from export.adopt.writing import begin, encode, finish
from export.calibrate import calibrate
from export.precision.choice import Asked
from model.data import Dataset
from model.finetuning.checkpoint import FineTunedRun, input_encoder
from model.network.encoder import count_parameters
from model.training.trainer import evaluate
from runtime.artifact import Artifact


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
        training=training_facts(run, dataset) | {"temperature": temperature},
    )
    sequences = encode(artifact, texts)
    artifact, errors = make_graphs(artifact, network, texts, sequences, asked, progress)
    adopted = finish(artifact, texts.labels, sequences, errors, overwrite, progress)
    return adopted.artifact, adopted.errors


def baseline_texts(dataset: Dataset) -> Texts:
    split = dataset.held_out
    return Texts([str(text) for text in split.inputs], [dataset.labels[label] for label in split.labels])


def training_facts(run: FineTunedRun, dataset: Dataset) -> dict[str, Any]:
    """What the manifest tells about how the model was made."""
    inputs, pooling = input_encoder(run.source), run.source.pooling
    tested = evaluate(run.model, dataset.test, inputs, pooling)[1] if len(dataset.test) else None
    return {
        "dataset": Path(run.info.dataset).name,
        "source": run.info.source,
        "architecture": run.source.model_type,
        "pretrained": run.info.pretrained.directory,
        "source_sha256": run.info.pretrained.sha256,
        "parameters": count_parameters(run.model),
        "epoch": run.facts["epoch"],
        "validation_accuracy": run.facts["validation_accuracy"],
        "test_accuracy": tested,
        "teachers": 0,
        "recipe": run.info.recipe.model_dump(),
    }
