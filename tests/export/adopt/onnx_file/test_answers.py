"""What is served of a file gives what the network gives that was exported, text by text."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from export.adopt.norms.find import find_norms
from export.adopt.norms.probing import load, run, with_outputs
from export.adopt.onnx_file.adopter import adopt_file
from export.adopt.onnx_file.graph import GraphFile
from export.adopt.onnx_file.source import Hints
from export.adopt.texts import Texts
from export.timing import plan, with_manifest
from runtime.artifact import Artifact, read_artifact
from runtime.graph.batch import EncodedBatch
from runtime.graph.encoder import Encoder
from runtime.manifest import CANARY, MODEL
from tests.adopted import make_texts
from tests.export.adopt.norms.exports import (
    WIDTH,
    between_integers,
    exported,
    fused,
    in_half,
    in_integers,
    norm_names,
    served,
)
from tests.export.adopt.onnx_file.files import ROWS, TOKENS, D, append, few_draws, save, tiny, with_vector
from tests.helpers import once
from tests.model.pretrained.networks import Answer, errors, pool_one, random_texts, reference

Change = Callable[[bytes, Path], bytes]
TEXTS = random_texts(types=False)


def unchanged(model: bytes, _: Path) -> bytes:
    return model


EXACT = {
    "bert-14": ("bert", 14, unchanged),
    "bert-17": ("bert", 17, unchanged),
    "roberta": ("roberta", 17, unchanged),
    "modernbert": ("modernbert", 14, unchanged),
    "t5": ("t5", 14, unchanged),
    "eurobert": ("eurobert", 18, unchanged),
    "fused": ("bert", 14, fused),
}
LOWER = {
    "half": ("bert", 14, in_half),
    "integers": ("bert", 14, in_integers),
    "between-integers": ("bert", 17, between_integers),
}
CLOSENESS = {"half": 0.9999, "integers": 0.98, "between-integers": 0.93}  # least cosine with the network in float64
FILES: dict[str, tuple[str, int, Change]] = EXACT | LOWER
PRE_NORM = {"modernbert": [1, 2, 3], "t5": [0, 1, 2, 3], "eurobert": [0, 1, 2, 3]}

every = pytest.mark.parametrize("kind", FILES)
exact = pytest.mark.parametrize("kind", EXACT)
lower = pytest.mark.parametrize("kind", LOWER)


@pytest.fixture
def artifact(kind: str, shared_path: Path) -> Artifact:
    """The file of this kind, adopted once; `model.onnx` two folders above the artifact."""
    return read_artifact(once(shared_path / "files" / kind / "mine" / "1", lambda target: adopt_kind(kind, target)))


def adopt_kind(kind: str, target: Path) -> None:
    family, opset, change = FILES[kind]
    folder = target.parent.parent
    path = save(folder, change(exported(family, opset), folder))
    with few_draws():
        adopt_file(path, Texts(make_texts(24), None), target, Hints(pooling="mean"))


def file_of(artifact: Artifact) -> Path:
    return artifact.path.parent.parent / "model.onnx"


def as_answer(batches: Sequence[EncodedBatch]) -> Answer:
    embedding = np.concatenate([batch.embedding for batch in batches])
    return Answer(None, embedding, np.concatenate([batch.norm_statistics for batch in batches]))


def least_cosine(found: NDArray[np.float32], expected: NDArray[np.float64]) -> float:
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    return float(((found * expected).sum(1) / lengths).min())


def alone(content: bytes, texts: Sequence[NDArray[np.int64]], names: Sequence[str]) -> list[dict[str, NDArray[Any]]]:
    """What a file of two inputs gives of its own for each text, in float64: its outputs, or values inside it."""
    session = load(with_outputs(onnx.load_from_string(content), names).SerializeToString())
    inputs = [{"input_ids": ids[None], "attention_mask": np.ones_like(ids[None])} for ids in texts]
    return [{name: run(session, feeds)[name][0].astype(np.float64) for name in names} for feeds in inputs]


def moments_alone(path: Path, texts: Sequence[NDArray[np.int64]]) -> NDArray[np.float64]:
    """Mean and 1/sigma of what flows into a file's norms, of all tokens [N, 2L]."""
    file = GraphFile(path)
    norms, _ = find_norms(file.parse())
    names = [str(norm.match.x.name) for norm in norms]
    rows = []
    for found in alone(file.content, texts, names):
        pairs = [
            (found[name].mean(-1), 1 / np.sqrt(found[name].var(-1) + norm.eps))
            for name, norm in zip(names, norms, strict=True)
        ]
        rows.append(np.stack([column for pair in pairs for column in pair], -1))
    return np.concatenate(rows)


@exact
def test_a_served_file_gives_what_its_network_gives_of_each_text(kind: str, artifact: Artifact):
    found = errors(
        as_answer([Encoder(artifact).run(TEXTS.ids)]), reference(served(EXACT[kind][0]).model, TEXTS, "mean")
    )
    assert found["embedding"] < 2e-6 and found["statistics"] < 2e-6


@exact
def test_texts_together_give_what_each_gives_alone(artifact: Artifact):
    encoder = Encoder(artifact)
    found = errors(as_answer([encoder.run(TEXTS.ids)]), as_answer([encoder.run([ids]) for ids in TEXTS.ids]))
    assert found["embedding"] < 1e-6 and found["statistics"] < 1e-6


@exact
def test_an_answer_does_not_depend_on_the_longest_text_beside_it(artifact: Artifact):
    encoder, short = Encoder(artifact), TEXTS.ids[2]
    expected = encoder.run([short])
    for length in (3, 20, 60):
        found = encoder.run([short, np.full(length, 7)])
        np.testing.assert_allclose(found.embedding[:1], expected.embedding, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found.norm_statistics[:2], expected.norm_statistics, rtol=1e-5, atol=1e-6)


@lower
def test_a_file_of_lower_precision_is_near_its_network(kind: str, artifact: Artifact):
    network, encoder = reference(served("bert").model, TEXTS, "mean"), Encoder(artifact)
    for found in (encoder.run(TEXTS.ids).embedding, as_answer([encoder.run([ids]) for ids in TEXTS.ids]).embedding):
        assert least_cosine(found, network.embedding) > CLOSENESS[kind]


@lower
def test_a_file_of_lower_precision_is_served_as_it_is(kind: str, artifact: Artifact):
    # The measured plan may be the other one, which rounds a value that lies between two integers to the other of them.
    encoder, file = Encoder(with_manifest(artifact, plan=plan("unfused"))), file_of(artifact)
    hidden = [torch.from_numpy(found["hidden"]) for found in alone(file.read_bytes(), TEXTS.ids, ["hidden"])]
    embedding = torch.stack([pool_one(tokens, "mean") for tokens in hidden]).numpy()
    expected = Answer(None, embedding, moments_alone(file, TEXTS.ids))
    found = errors(as_answer([encoder.run([ids]) for ids in TEXTS.ids]), expected)
    most = 2e-3 if kind == "half" else 2e-6
    assert found["embedding"] < most and found["statistics"] < most


@every
def test_the_manifest_tells_how_a_file_is_served(kind: str, artifact: Artifact):
    manifest, (family, opset, _) = artifact.manifest, FILES[kind]
    assert (manifest.graph, manifest.task, manifest.opset, manifest.d_model) == ("padded", "embedding", opset, WIDTH)
    assert manifest.precision_kind == {"half": "fp16"}.get(kind, "int8" if kind in LOWER else "fp32")
    assert [layer.name for layer in manifest.layers] == norm_names(family) and manifest.unobserved == []
    kinds = {layer.kind for layer in manifest.layers}
    assert kinds == {"rms_norm" if family in ("t5", "eurobert") else "layer_norm"}
    places = [place for place, layer in enumerate(manifest.layers) if layer.placement == "pre"]
    assert places == PRE_NORM.get(kind, [])


@every
def test_the_canary_is_what_the_file_gives(kind: str, artifact: Artifact):
    canary = json.loads(artifact.files[CANARY])
    texts = [np.array(ids, dtype=np.int64) for ids in canary["inputs"]]
    found = alone(file_of(artifact).read_bytes(), texts, ["hidden"])
    most = 2e-3 if kind == "half" else 1e-5
    means = [tokens["hidden"].mean(0) for tokens in found]
    np.testing.assert_allclose(canary["embedding"], means, rtol=most, atol=most)


@pytest.mark.parametrize(
    ("pooling", "opset"), [("mean", 17), ("cls", 17), ("last", 17), ("weighted", 17), ("max", 17), ("max", 18)]
)
def test_every_pooling_makes_the_vector_of_a_text(pooling: str, opset: int, tmp_path: Path):
    path = save(tmp_path, exported("shallow", opset))
    with few_draws():
        adopted = adopt_file(path, Texts(make_texts(10), None), tmp_path / "m" / "1", Hints(pooling=pooling))
    assert adopted.artifact.manifest.inputs.pooling == pooling
    expected = reference(served("shallow").model, TEXTS, pooling).embedding
    found = Encoder(adopted.artifact).run(TEXTS.ids).embedding
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_a_file_that_pools_itself_is_served_by_its_vectors(tmp_path: Path):
    path = save(tmp_path, with_vector(exported("shallow", 17)))
    with few_draws():
        adopted = adopt_file(path, Texts(make_texts(10), None), tmp_path / "m" / "1")
    found = as_answer([Encoder(adopted.artifact).run(TEXTS.ids)])
    assert max(errors(found, reference(served("shallow").model, TEXTS, "mean")).values()) < 2e-6


def test_outputs_that_are_not_served_are_not_computed(tmp_path: Path):
    model = tiny()
    names, shape = ("last_hidden_state", "other"), [ROWS, TOKENS, D]
    append(model, [onnx.helper.make_node("Tanh", names[:1], names[1:])], dict.fromkeys(names, shape))
    with few_draws():
        hints = Hints(pooling="mean")
        adopted = adopt_file(save(tmp_path, model), Texts(make_texts(10), None), tmp_path / "m" / "1", hints)
    operators = {node.op_type for node in onnx.load_from_string(adopted.artifact.files[MODEL]).graph.node}
    assert "LayerNormalization" in operators and "Tanh" not in operators
