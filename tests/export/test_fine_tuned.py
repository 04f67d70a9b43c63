"""A fine-tuned run is exported as an adopted encoder is, and judged by class."""

import csv
import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import export.precision.int8
from export.exporter import export_run
from export.fine_tuned import export_fine_tuned
from export.precision.choice import Asked
from model.data import load_dataset
from model.finetuning.checkpoint import load_fine_tuned
from model.finetuning.run import fine_tune
from model.training.batches import to_batch
from model.training.recipe import FineTuning
from runtime.artifact import Artifact, read_artifact
from runtime.drift.baseline import read_baseline
from runtime.errors import ArtifactError, DataError
from runtime.graph.encoder import Encoder
from runtime.graph.texts import make_input_encoder
from tests.model.pretrained.networks import save_modules, save_network

LETTERS = {"one": "abcd", "two": "efgh", "three": "ijkl"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a file of three classes, told by the letters that are in their texts."""
    folder = tmp_path_factory.mktemp("tuned")
    save_network(folder / "pretrained", "bert")
    save_modules(folder / "pretrained", "Transformer", "Pooling", "Normalize", pooling_mode_cls_token=True)
    with (folder / "letters.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for name, letters in LETTERS.items():  # no text twice: equal ones are in the same part
            each = itertools.product(letters, letters, "mno", letters, "mno")
            writer.writerows([" ".join(text), name] for text in itertools.islice(each, 400))
    dataset = load_dataset(str(folder / "letters.csv"), folder)
    recipe = FineTuning(epochs=1, least_steps=0)
    fine_tune(dataset, recipe, folder / "pretrained", folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def artifact(run: Path) -> Artifact:
    export_run(run, run.parent / "models", "letters", "1", run.parent)
    return read_artifact(run.parent / "models" / "letters" / "1")


def test_the_artifact_classifies_as_the_run_does(run: Path, artifact: Artifact) -> None:
    manifest, encoder, tuned = artifact.manifest, Encoder(artifact), load_fine_tuned(run)
    assert (manifest.task, manifest.labels) == ("classification", ["one", "three", "two"])
    sequences = [item.tokens for item in make_input_encoder(artifact).encode(["a b m", "j i o", "f n", "e l a"])]
    with torch.inference_mode():
        logits = tuned.model(*to_batch(sequences, torch.empty(0), "cls").inputs).logits
    batch = encoder.run(sequences)
    assert batch.classes == logits.argmax(1).tolist()
    temperature = manifest.training["temperature"]
    assert np.allclose(temperature * batch.logits, logits.numpy(), rtol=1e-4, atol=1e-3)
    facts = manifest.training
    assert facts["pretrained"] == "pretrained" and facts["recipe"]["head_rate"] > 1
    assert facts["validation_accuracy"] == facts["accuracy"] > 0.9 and facts["test_accuracy"] > 0.9
    assert manifest.inputs.pooling == "cls"  # type: ignore[union-attr]


def test_the_baseline_is_of_the_validation_texts_by_class(artifact: Artifact) -> None:
    baseline = read_baseline(artifact)
    assert baseline.state.requests == 240  # validation and test rows
    assert baseline.reference is not None and baseline.reference.counts.tolist() == [80, 80, 80]
    assert artifact.manifest.layers[0].name == "embeddings.LayerNorm"


def test_it_is_not_written_over_and_not_made_of_other_data(run: Path, artifact: Artifact) -> None:
    with pytest.raises(ArtifactError, match="exists already"):
        export_run(run, artifact.path.parent.parent, "letters", "1", run.parent)
    table = run.parent / "letters.csv"
    content = table.read_text()
    table.write_text(content + "a b,two\n")
    try:
        with pytest.raises(DataError, match="is not, or is not split, as it was"):
            export_run(run, artifact.path.parent.parent, "letters", "2", run.parent)
    finally:
        table.write_text(content)


def test_lower_precision_is_measured_on_training_texts_and_accuracies_are_of_what_is_served(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, ...]] = []

    def spy(graph: Any, original: Encoder, samples: Any, fine: bool) -> Any:
        seen.extend(tuple(tokens.tolist()) for batch in samples for tokens in batch)
        return to_int8(graph, original, samples, fine)

    to_int8 = export.precision.int8.to_int8
    monkeypatch.setattr(export.precision.int8, "to_int8", spy)
    tuned, dataset = load_fine_tuned(run), load_dataset(str(run.parent / "letters.csv"), run.parent)
    told = replace(tuned, facts=tuned.facts | {"validation_accuracy": 0.123})  # by PyTorch
    target = run.parent / "models" / "letters" / "int8"
    artifact, _ = export_fine_tuned(told, dataset, target, True, Asked("int8"))
    inputs, encoder = make_input_encoder(artifact), Encoder(artifact)
    held_out = {tuple(item.tokens.tolist()) for item in inputs.encode(dataset.held_out.inputs)}
    assert seen and not held_out & set(seen)
    for split, name in ((dataset.validation, "validation_accuracy"), (dataset.test, "test_accuracy")):
        answers = encoder.run([item.tokens for item in inputs.encode(split.inputs)]).classes
        assert artifact.manifest.training[name] == pytest.approx((np.array(answers) == split.labels).mean())
    assert artifact.manifest.precision_kind == "int8"
