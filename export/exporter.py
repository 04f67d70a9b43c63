"""`addnorm export`: from a run directory to a verified artifact."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from export.calibrate import calibrate
from export.deep import DeepEncoder, deep_graph
from export.graph import OPSET, ServedEncoder, only, to_onnx
from export.precision.choice import EXACT, Asked, choose
from export.precision.lower import lower, with_layer_errors
from export.reference import fit_reference
from export.timing import with_plan
from export.verify import expect, spread, verify, verify_deep
from model.data import Dataset, Split, load_dataset
from model.network.encoder import count_parameters
from model.network.norms import BatchNorm, norm_kind
from model.training.checkpoint import DataInfo, Run, is_fine_tuned, load_run
from model.training.run import make_encoder
from runtime.artifact import Artifact, check_target, write_artifact
from runtime.drift.baseline import Baseline
from runtime.drift.numbers import request_features
from runtime.errors import DataError, ExportError
from runtime.graph.batch import row_means, token_values
from runtime.graph.deep import DeepGraph
from runtime.graph.encoder import Encoder
from runtime.graph.inputs import InputEncoder
from runtime.graph.packing import Tokens, pack
from runtime.manifest import BASELINE, CANARY, DEEP, MODEL, TOKENIZER, FeatureInputs, Manifest, NormLayer, TextInputs
from runtime.precision import TRIALS, LowPrecision
from runtime.statistics.deep import DeepState, measure
from runtime.statistics.moments import Moments
from runtime.statistics.recorder import NormRecorder

BATCH = 64


def export_run(
    directory: Path,
    models: Path,
    name: str,
    model_version: str,
    data: Path,
    overwrite: bool = False,
    asked: Asked = EXACT,
) -> tuple[Artifact, dict[str, float]]:
    """Exports the best weights of a run as the artifact `models`/`name`/`model_version`.

    Args:
        data: folder of the data sets; the baseline is what the run held out.
        overwrite: replace an artifact of that name.
        asked: precision of the graph that is served; the float32 graph is verified first.

    Returns:
        The artifact, and the largest error of each kind between graph and PyTorch.

    Raises:
        DataError: the run or its data cannot be read.
        ExportError: the graph does not agree with PyTorch, or lower precision costs too much accuracy.
        ArtifactError: the artifact exists already or cannot be written.
    """
    target = models / name / model_version
    check_target(target, overwrite)
    if is_fine_tuned(directory):
        from export.fine_tuned import export_fine_tuned  # transformers takes seconds to import
        from model.finetuning.checkpoint import load_fine_tuned

        tuned = load_fine_tuned(directory)
        return export_fine_tuned(tuned, data_of(tuned.info, directory, data), target, overwrite, asked)
    run = load_run(directory)
    dataset = data_of(run.info, directory, data)
    inputs = make_encoder(dataset, run.tokenizer, run.info.encoder.max_tokens)
    temperature = calibrate(run.model, dataset.validation, inputs)
    described = Artifact(target, describe_run(run, name, model_version), {})
    artifact, encoder, errors = make_graphs(run, described, asked, dataset, inputs)
    deep = DeepGraph(artifact, encoder)
    errors["deep"] = verify_deep(deep, DeepEncoder(run.model))
    baseline = measure_baseline(encoder, deep, dataset.held_out, inputs)
    if (baseline.state.moments.count != baseline.state.tokens).any():
        raise ExportError("The validation data give NaN or infinite norm statistics: nothing was written.")
    trials = {name: value for name, value in artifact.manifest.training.items() if name == TRIALS}
    facts = training_facts(run, dataset, encoder, inputs) | {"temperature": temperature} | trials
    manifest = artifact.manifest.model_copy(update={"training": facts})
    return write_artifact(target, manifest, artifact.files | {BASELINE: baseline.to_json()}, overwrite), errors


def data_of(info: DataInfo, directory: Path, data: Path) -> Dataset:
    """What a run learned from, read again."""
    dataset = load_dataset(info.dataset, data, info.text_column, info.label_column)
    if dataset.sha256 != info.data_sha256:
        raise DataError(
            f"{info.dataset} is not, or is not split, as it was when {directory} was trained: train it again."
        )
    return dataset


def make_graphs(
    run: Run, artifact: Artifact, asked: Asked, dataset: Dataset, inputs: InputEncoder
) -> tuple[Artifact, Encoder, dict[str, float]]:
    """`artifact` with its graphs, canary and tokenizer, verified; its encoder; the errors that were met."""
    served, example = ServedEncoder(run.model), pack(spread(run.info.encoder)[-1])
    both = to_onnx(DeepEncoder(run.model), example)
    artifact.files[MODEL] = only(served.outputs, both).SerializeToString()
    artifact.files[CANARY] = make_canary(served, dataset.validation, inputs)
    if run.tokenizer is not None:
        artifact.files[TOKENIZER] = run.tokenizer.to_str().encode()
    probes = [item.tokens for item in inputs.encode(dataset.validation.inputs[:BATCH])]
    artifact = with_plan(artifact, probes)
    errors = verify(Encoder(artifact), served)

    def lower_to(kind: LowPrecision) -> tuple[Artifact, dict[str, float]]:
        limits = None if asked.min_cosine is None else asked.cosines(kind, "classification")
        lowered = with_plan(lower(artifact, kind, dataset, inputs, limits), probes)
        encoder, batch = Encoder(lowered), pack(spread(run.info.encoder)[-1])
        found, expected = encoder.run_packed(batch).norm_statistics, expect(served, batch).norm_statistics
        return with_layer_errors(lowered, found, expected), verify(encoder, served)

    artifact, errors = choose((artifact, errors), asked, lower_to)
    artifact.files[DEEP] = deep_graph(both, artifact.files[MODEL])
    return artifact, Encoder(artifact), errors


def describe_run(run: Run, name: str, model_version: str) -> Manifest:
    config = run.info.encoder
    return Manifest(
        name=name,
        version=model_version,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        labels=run.info.labels,
        inputs=TextInputs(max_tokens=config.max_tokens)
        if config.vocab_size
        else FeatureInputs(max_tokens=config.max_tokens, num_features=config.num_features),
        d_model=config.d_model,
        layers=describe_layers(run),
        opset=OPSET,
        producer={
            package: version(package) for package in ("torch", "onnx", "onnxscript", "onnxruntime", "tokenizers")
        },
        training={},
        files={},
    )


def describe_layers(run: Run) -> list[NormLayer]:
    config = run.info.encoder
    return [
        NormLayer(
            name=name,
            kind=norm_kind(norm),
            placement=config.placement,
            d_model=config.d_model,
            eps=config.eps,
            add=name.startswith("blocks."),
            running_mean=norm.running_mean.tolist() if isinstance(norm, BatchNorm) else None,
            running_variance=norm.running_var.tolist() if isinstance(norm, BatchNorm) else None,
        )
        for name, norm in run.model.norms()
    ]


def make_canary(served: ServedEncoder, validation: Split, inputs: InputEncoder) -> bytes:
    """A few validation inputs, one of a single token, with PyTorch's float64 answers for them."""
    sequences = [item.tokens for item in inputs.encode(validation.inputs[:4])]
    sequences.append(sequences[0][:1])
    expected = expect(served, pack(sequences))
    content = {
        "inputs": [sequence.tolist() for sequence in sequences],
        "logits": expected.logits64.tolist(),
        "norm_statistics": expected.norm_statistics.tolist(),
    }
    return json.dumps(content, separators=(",", ":")).encode()


def measure_baseline(encoder: Encoder, deep: DeepGraph, held_out: Split, inputs: InputEncoder) -> Baseline:
    """The examples that were not learned from through the graphs that will be served."""
    layers = encoder.manifest.layers
    recorder, rows = NormRecorder(layers), Moments.empty(2 * len(layers))
    requests, looks = [], DeepState.empty(layers)
    for sequences in split_batches(held_out, inputs):
        batch = encoder.run(sequences)
        recorder.observe(batch)
        means = row_means(token_values(batch.norm_statistics, layers), batch.lengths)
        rows = rows.merge(Moments.of(means, np.isfinite(means)))
        requests.append(request_features(batch))
        looks = looks.merge(measure(deep.run, pack(sequences)))
    features, classes = (np.concatenate(part) for part in zip(*requests, strict=True))
    reference = fit_reference(features, classes, len(encoder.manifest.labels), classes == held_out.labels)
    return Baseline(recorder.state(), rows, reference, looks)


def training_facts(run: Run, dataset: Dataset, encoder: Encoder, inputs: InputEncoder) -> dict[str, Any]:
    """What the manifest tells about how the model was made, accuracies through the served graph included."""
    return {
        "dataset": Path(run.info.dataset).name,
        "source": run.info.source,
        "parameters": count_parameters(run.model),
        "epoch": run.facts["epoch"],
        "validation_accuracy": accuracy(encoder, dataset.validation, inputs),
        "test_accuracy": accuracy(encoder, dataset.test, inputs) if len(dataset.test) else None,
        "teachers": len(run.info.teachers),
        "recipe": run.info.recipe.model_dump(),
    }


def accuracy(encoder: Encoder, split: Split, inputs: InputEncoder) -> float:
    runs = (encoder.run(sequences) for sequences in split_batches(split, inputs))
    answers = np.concatenate([batch.logits.argmax(1) for batch in runs])
    return float((answers == split.labels).mean())


def split_batches(split: Split, inputs: InputEncoder) -> Iterator[list[Tokens]]:
    """The split's sequences, in its own order."""
    sequences = [item.tokens for item in inputs.encode(split.inputs)]
    for start in range(0, len(sequences), BATCH):
        yield sequences[start : start + BATCH]
