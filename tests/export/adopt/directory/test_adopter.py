"""What adoption writes, and what it refuses. But for those that all tests share, nothing is exported here."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import export.reference
from export.adopt import writing
from export.adopt.baseline import run_all
from export.adopt.clusters import split
from export.adopt.directory import adopter
from export.adopt.directory.adopter import Adopted, adopt_directory
from export.adopt.directory.reference import NetworkReference
from export.adopt.parity import LIMITS
from export.adopt.texts import Texts
from runtime.artifact import Artifact, read_artifact
from runtime.drift.baseline import read_baseline
from runtime.errors import ArtifactError, DataError, ExportError
from runtime.graph.batch import EncodedBatch, row_means, token_values
from runtime.graph.clusters import read_clusters
from runtime.graph.encoder import Encoder
from runtime.graph.texts import make_input_encoder
from runtime.manifest import BASELINE, CANARY, CLUSTERS, DEEP, MODEL, TOKENIZER, TextInputs
from tests.adopted import (
    EMBEDDING,
    MULTILABEL,
    RERANK,
    SUBJECTS,
    make_inputs,
    make_pairs,
    make_texts,
    source_of,
)
from tests.model.pretrained.networks import adopted

RECIPES = {"embedding": EMBEDDING, "rerank": RERANK, "multilabel": MULTILABEL}
INPUTS: dict[str, dict[str, Any]] = {
    "embedding": {"pooling": "mean", "strip": True, "prompts": {"query": "a b ", "passage": "p "}},
    "rerank": {"pooling": "cls", "strip": True, "pairs": True, "type_ids": True},
    "multilabel": {"pooling": "cls"},
}
Adopt = Callable[..., Adopted]

every = pytest.mark.parametrize("kind", RECIPES)


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export.reference, "DRAWS", 200)


@pytest.fixture
def artifact(kind: str, request: pytest.FixtureRequest) -> Artifact:
    return request.getfixturevalue(f"{kind}_artifact")


@pytest.fixture
def adopt(kind: str, artifact: Artifact, shared_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Adopt:
    """Adopts once more, with the graphs that were exported before."""

    def make_graphs(described: Artifact, *_: Any) -> tuple[Artifact, dict[str, float]]:
        files = described.files | {name: artifact.files[name] for name in (MODEL, DEEP, CANARY)}
        same = {"plan": artifact.manifest.plan, "layers": artifact.manifest.layers}
        manifest = described.manifest.model_copy(update=same)
        return replace(described, files=files, manifest=manifest), artifact.manifest.training["parity"]

    def adopt(texts: Texts, **options: Any) -> Adopted:
        return adopt_directory(source_of(RECIPES[kind], shared_path), texts, tmp_path / "mine" / "7", **options)

    monkeypatch.setattr(adopter, "make_graphs", make_graphs)
    return adopt


def rows_of(artifact: Artifact, inputs: list[Any]) -> list[EncodedBatch]:
    sequences = [item.tokens for item in make_input_encoder(artifact).encode(inputs)]
    return run_all(Encoder(artifact), sequences, lambda *_: None)


def assert_nothing_written(tmp_path: Path) -> None:
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@every
def test_the_manifest_says_what_was_adopted(kind: str, artifact: Artifact):
    manifest, recipe = artifact.manifest, RECIPES[kind]
    assert (manifest.name, manifest.version, manifest.format) == (recipe.name, "1", 2)
    assert manifest.task == {"multilabel": "classification"}.get(kind, kind)
    assert manifest.labels == (SUBJECTS if kind == "multilabel" else [])
    assert manifest.activation == ("softmax" if kind == "embedding" else "sigmoid")
    assert manifest.normalize == (kind == "embedding")
    assert (manifest.d_model, len(manifest.layers), manifest.unobserved) == (32, 5, [])
    assert {(layer.kind, layer.placement, layer.d_model) for layer in manifest.layers} == {("layer_norm", "post", 32)}
    shared = {"max_tokens": 24, "special_tokens": True, "vocabulary": 60}
    assert manifest.inputs == TextInputs(**shared, **INPUTS[kind])
    assert manifest.clusters == (None if kind == "multilabel" else 2)
    assert manifest.producer == {name: version(name) for name in manifest.producer} and "torch" in manifest.producer
    assert manifest.plan is not None and manifest.plan.name in manifest.plan.speed


@every
def test_the_artifact_has_the_files_that_its_task_needs(kind: str, artifact: Artifact):
    clusters = set() if kind == "multilabel" else {CLUSTERS}
    assert set(artifact.files) == {MODEL, DEEP, TOKENIZER, CANARY, BASELINE} | clusters
    tokenizer = json.loads(artifact.files[TOKENIZER])
    assert tokenizer["padding"] is None and tokenizer["truncation"] is None


@every
def test_the_training_facts_say_where_it_comes_from(kind: str, artifact: Artifact, shared_path: Path):
    source, facts = source_of(RECIPES[kind], shared_path), artifact.manifest.training
    digests = {
        str(path.relative_to(source)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in source.rglob("*")
        if path.suffix in (".json", ".safetensors")
    }
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= digests.keys()
    assert facts["source_sha256"] == digests
    assert facts["adopted_from"] == RECIPES[kind].name
    assert facts["architecture"] == RECIPES[kind].model_type
    network = adopted(source)[1]
    assert facts["parameters"] == sum(weights.numel() for weights in network.parameters())
    assert facts["texts"] == 320
    limits = LIMITS | {"deep": 1e-4}
    assert facts["parity"].keys() == limits.keys() - ({"logits"} if kind == "embedding" else set())
    assert all(0 <= error <= limits[name] for name, error in facts["parity"].items())


@every
def test_the_canary_holds_what_pytorch_gives_in_float64(kind: str, artifact: Artifact, shared_path: Path):
    canary = json.loads(artifact.files[CANARY])
    sequences = [np.array(tokens, dtype=np.int64) for tokens in canary["inputs"]]
    network = adopted(source_of(RECIPES[kind], shared_path))[1]
    expected = NetworkReference(network).run(sequences)
    for name, values in (expected.answers | {"norm_statistics": expected.norm_statistics}).items():
        np.testing.assert_allclose(canary[name], values, rtol=1e-12, atol=1e-12)
    found = Encoder(read_artifact(artifact.path)).run(sequences)
    np.testing.assert_allclose(found.embedding, canary["embedding"], rtol=1e-4, atol=1e-5)


@every
def test_a_canary_that_is_not_reproduced_is_refused(kind: str, artifact: Artifact):
    canary = json.loads(artifact.files[CANARY])
    name = "embedding" if kind == "embedding" else "logits"
    wrong = json.dumps(canary | {name: (np.array(canary[name]) + 1).tolist()}).encode()
    with pytest.raises(ArtifactError, match=f"does not reproduce its canary .*{name} differ"):
        Encoder(replace(artifact, files=artifact.files | {CANARY: wrong}))


@every
def test_the_baseline_is_what_pytorch_sees_of_the_texts(kind: str, artifact: Artifact, shared_path: Path):
    """Its moments equal a float64 pass over all tokens by the network itself."""
    sequences = [item.tokens for item in make_input_encoder(artifact).encode(make_inputs(RECIPES[kind]))]
    network = adopted(source_of(RECIPES[kind], shared_path))[1]
    seen = NetworkReference(network).run(sequences).norm_statistics
    values, baseline = token_values(seen, artifact.manifest.layers), read_baseline(artifact)
    assert (baseline.state.requests, baseline.state.tokens) == (320, len(values))
    sigma = np.sqrt(values[:, 1::2].mean(0))
    np.testing.assert_array_less(np.abs(baseline.state.moments.mean - values.mean(0))[0::2], 1e-5 * sigma)
    np.testing.assert_allclose(baseline.state.moments.mean[1::2], values[:, 1::2].mean(0), rtol=1e-5)
    np.testing.assert_allclose(baseline.state.moments.variance[1::2], values[:, 1::2].var(0), rtol=1e-4)
    rows = row_means(values, np.array([len(sequence) for sequence in sequences]))
    np.testing.assert_allclose(baseline.rows.mean[1::2], rows[:, 1::2].mean(0), rtol=1e-5)
    assert baseline.rows.count.tolist() == [320] * 10


@every
def test_drift_is_judged_by_classes_or_by_clusters_of_other_texts(kind: str, artifact: Artifact):
    rows, reference = rows_of(artifact, make_inputs(RECIPES[kind])), read_baseline(artifact).reference
    classes = np.array([row.classes[0] for row in rows])
    used = np.arange(320) if kind == "multilabel" else split(320)[1]
    assert reference is not None
    assert reference.counts.tolist() == np.bincount(classes[used], minlength=artifact.manifest.num_classes).tolist()
    assert kind == "multilabel" or reference.counts.min() >= 50
    assert read_clusters(artifact).centroids.shape == ((1, 0) if kind == "multilabel" else (2, 32))


@every
def test_adoption_gives_the_same_again(kind: str, artifact: Artifact, adopt: Adopt):
    labels = [SUBJECTS[number % 3] for number in range(320)] if kind == "multilabel" else None
    done: list[tuple[int, int]] = []
    found = adopt(Texts(make_inputs(RECIPES[kind]), labels), progress=lambda *both: done.append(both))
    assert (found.artifact.manifest.name, found.artifact.manifest.version) == ("mine", "7")
    assert read_artifact(found.artifact.path).files == found.artifact.files == artifact.files
    assert (
        found.accuracy == artifact.manifest.training["accuracy"]
        and found.errors == found.artifact.manifest.training["parity"]
    )
    assert done == [(32 * number, 320) for number in range(1, 11)]


@pytest.mark.parametrize("kind", ["embedding"])
def test_an_artifact_that_exists_is_replaced_only_if_asked(adopt: Adopt):
    first = adopt(Texts(make_texts(20), None))
    with pytest.raises(ArtifactError, match=r"exists already: choose another version, or pass --overwrite\.$"):
        adopt(Texts(make_texts(30), None))
    assert read_artifact(first.artifact.path).manifest.training["texts"] == 20
    adopt(Texts(make_texts(30), None), overwrite=True)
    assert read_artifact(first.artifact.path).manifest.training["texts"] == 30


@pytest.mark.parametrize("kind", ["multilabel"])
def test_accuracy_is_the_share_of_labels_that_the_model_gives(artifact: Artifact, adopt: Adopt):
    found = [artifact.manifest.labels[row.classes[0]] for row in rows_of(artifact, make_texts(20))]
    labels = [*found[:15], *(SUBJECTS[(SUBJECTS.index(label) + 1) % 3] for label in found[15:])]
    adopted = adopt(Texts(make_texts(20), labels))
    assert adopted.accuracy == adopted.artifact.manifest.training["accuracy"] == 0.75


@pytest.mark.parametrize("kind", ["multilabel"])
def test_a_label_that_the_model_has_not_is_refused(adopt: Adopt, tmp_path: Path):
    with pytest.raises(DataError, match=r"no label 'house', it has card, loan, rent: .*\.$"):
        adopt(Texts(make_texts(10), [*SUBJECTS, *SUBJECTS, *SUBJECTS, "house"]))
    assert_nothing_written(tmp_path)


@pytest.mark.parametrize("kind", ["rerank", "embedding"])
def test_pairs_are_for_models_that_read_pairs(kind: str, adopt: Adopt, tmp_path: Path):
    wrong = make_texts(10) if kind == "rerank" else make_pairs(10)
    said = r"pairs .* --text-pair\.$" if kind == "rerank" else r"single .* --text-pair out"
    with pytest.raises(DataError, match=said):
        adopt(Texts(wrong, None))
    assert_nothing_written(tmp_path)


@pytest.mark.parametrize("kind", ["embedding"])
def test_a_text_that_cannot_be_read_is_refused_with_its_place(adopt: Adopt, tmp_path: Path):
    with pytest.raises(DataError, match=r"^The baseline's inputs\[10\] is empty.*counted from 0.*\.$"):
        adopt(Texts([*make_texts(10), " "], None))
    assert_nothing_written(tmp_path)


@pytest.mark.parametrize("kind", ["embedding"])
@pytest.mark.parametrize("part", ["make_graphs", "run_all", "fit_baseline", "look_deep", "accuracy"])
def test_nothing_is_written_where_a_part_fails(
    part: str, adopt: Adopt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: Any) -> None:
        raise ExportError("It went wrong.")

    monkeypatch.setattr(adopter if part == "make_graphs" else writing, part, fail)
    with pytest.raises(ExportError, match="It went wrong"):
        adopt(Texts(make_texts(10), None))
    assert_nothing_written(tmp_path)
