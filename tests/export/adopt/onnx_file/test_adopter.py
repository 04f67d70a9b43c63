"""What adopting a file writes, and that it writes nothing where something is wrong."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from export.adopt import parity, writing
from export.adopt.norms.expose import OUTPUT
from export.adopt.onnx_file import adopter
from export.adopt.onnx_file.adopter import adopt_file
from export.adopt.onnx_file.source import Hints
from export.adopt.texts import Texts
from export.adopt.writing import Adopted
from runtime.artifact import Artifact, read_artifact
from runtime.errors import ArtifactError, ExportError
from runtime.graph.encoder import Encoder
from runtime.graph.texts import make_input_encoder
from runtime.manifest import BASELINE, CANARY, CLUSTERS, DEEP, MODEL, TOKENIZER, NormLayer, TextInputs
from tests.adopted import make_texts
from tests.export.adopt.onnx_file.files import (
    D,
    few_draws,
    given_as,
    rename,
    save,
    save_apart,
    tiny,
    weight,
    with_head,
    with_positions,
    with_vector,
)
from tests.model.pretrained.networks import random_texts, write

IDS = [ids[:12] for ids in random_texts(types=False).ids]


def adopt(path: Path, target: Path | None = None, texts: int = 12, **options: Any) -> Adopted:
    hints = options.pop("hints", Hints(pooling="mean"))
    with few_draws():
        return adopt_file(path, Texts(make_texts(texts), None), target or path.parent / "mine" / "7", hints, **options)


def answers(artifact: Artifact) -> tuple[np.ndarray, np.ndarray]:
    batch = Encoder(artifact).run(IDS)
    return batch.embedding, batch.norm_statistics


def test_the_manifest_says_what_was_adopted(tmp_path: Path):
    path = save(tmp_path, tiny())
    write(tmp_path / "config.json", {"model_type": "little"})
    write(
        tmp_path / "config_sentence_transformers.json", {"prompts": {"query": "a b "}, "default_prompt_name": "query"}
    )
    manifest = adopt(path).artifact.manifest
    assert (manifest.name, manifest.version, manifest.task, manifest.labels) == ("mine", "7", "embedding", [])
    assert (manifest.graph, manifest.normalize, manifest.opset, manifest.precision) == ("padded", True, 17, None)
    (layer,) = manifest.layers
    assert layer.eps == pytest.approx(1e-5)
    assert layer.model_copy(update={"eps": 1}) == NormLayer(
        name="norm_00", kind="layer_norm", placement="post", d_model=D, eps=1
    )
    prompts = {"prompts": {"query": "a b "}, "default_prompt": "query"}
    expected = TextInputs(max_tokens=12, special_tokens=True, vocabulary=60, pooling="mean", **prompts)
    assert manifest.inputs == expected
    packages = {"onnx", "onnx-ir", "onnxruntime", "tokenizers"}
    assert manifest.producer == {name: version(name) for name in packages}
    assert manifest.plan is not None and manifest.plan.name in manifest.plan.speed


def test_the_training_facts_say_where_it_comes_from(tmp_path: Path):
    path = save(tmp_path, tiny())
    facts = adopt(path).artifact.manifest.training
    assert (facts["adopted_from"], facts["architecture"], facts["texts"]) == ("model.onnx", "unknown", 12)
    assert facts["source_sha256"] == {"model.onnx": hashlib.sha256(path.read_bytes()).hexdigest()}
    assert facts["parameters"] == sum(weight(tiny(), item.name).size for item in tiny().graph.initializer)
    assert facts["accuracy"] is None
    limits = parity.LIMITS.keys() - {"logits"}
    assert facts["parity"].keys() == limits | {"norm_statistics", "deep"}
    assert all(0 <= facts["parity"][kind] <= parity.LIMITS[kind] for kind in limits)


def test_the_artifact_is_whole(tmp_path: Path):
    path = save(tmp_path, tiny())
    adopted = adopt(path)
    artifact = read_artifact(adopted.artifact.path)
    assert artifact.files == adopted.artifact.files
    assert artifact.files.keys() == {MODEL, DEEP, TOKENIZER, CANARY, BASELINE}
    graph = Encoder(artifact).session
    assert {value.name for value in graph.get_inputs()} == {"input_ids", "position_ids", "segment_ids", "pooling"}
    assert {value.name: value.type for value in graph.get_outputs()} == dict.fromkeys(
        ("embedding", OUTPUT), "tensor(float)"
    )
    texts = make_input_encoder(artifact).encode(["a b c"])
    assert texts[0].tokens.tolist() == [1, 4, 5, 6, 2]


def test_enough_texts_make_clusters_and_a_verdict(tmp_path: Path):
    done: list[int] = []
    artifact = adopt(save(tmp_path, tiny()), texts=300, progress=lambda *both: done.append(both[0])).artifact
    assert CLUSTERS in artifact.files and artifact.manifest.clusters == 2
    assert done == sorted(done) and done[-1] == 300


def test_adoption_gives_the_same_again(tmp_path: Path):
    path = save(tmp_path, tiny())
    first, second = (adopt(path, tmp_path / name / "1") for name in ("a", "b"))
    assert first.artifact.files == second.artifact.files and first.errors == second.errors


def test_an_artifact_that_exists_is_replaced_only_if_asked(tmp_path: Path):
    path = save(tmp_path, tiny())
    before = adopt(path).artifact
    path.write_bytes(b"not looked at")
    with pytest.raises(ArtifactError, match=r"exists already: choose another version, or pass --overwrite\.$"):
        adopt(path)
    with pytest.raises(ExportError):
        adopt(path, overwrite=True)
    assert read_artifact(before.path).manifest == before.manifest
    save(tmp_path, tiny())
    adopt(path, texts=11, overwrite=True)
    assert read_artifact(before.path).manifest.training["texts"] == 11


def test_weights_beside_the_file_become_part_of_the_graph(tmp_path: Path):
    expected = adopt(save(tmp_path / "whole", tiny())).artifact
    apart = save_apart(tmp_path / "apart", tiny())
    digests = {
        name: hashlib.sha256((apart.parent / name).read_bytes()).hexdigest() for name in ("model.onnx", "weights.bin")
    }
    artifact = adopt(apart).artifact
    assert artifact.manifest.training["source_sha256"] == digests
    (tmp_path / "apart" / "weights.bin").unlink()
    for found, wanted in zip(answers(read_artifact(artifact.path)), answers(expected), strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert artifact.manifest.training["parameters"] == expected.manifest.training["parameters"]


def clashing() -> onnx.ModelProto:
    """Values and weights that are called like what the served graph takes and gives."""
    names = {"words": "embedding", "context": "pooling", "mixed": "logits", "table": "segment_ids", "x": "position_ids"}
    model = tiny()
    for old, new in names.items():
        rename(model, old, new)
    return model


OTHER_FILES: dict[str, Callable[[], onnx.ModelProto]] = {
    "int32 ids": lambda: given_as(tiny(), "input_ids", TensorProto.INT32),
    "a mask of floats": lambda: given_as(tiny(), "attention_mask", TensorProto.FLOAT),
    "a mask of booleans": lambda: given_as(tiny(), "attention_mask", TensorProto.BOOL),
    "an int32 mask": lambda: given_as(tiny(), "attention_mask", TensorProto.INT32),
    "other names": lambda: rename(rename(tiny(), "input_ids", "input_word_ids:0"), "attention_mask", "input_mask:0"),
    "position ids": with_positions,
    "int32 position ids": lambda: given_as(with_positions(), "position_ids", TensorProto.INT32),
    "names of the served graph": clashing,
    "its own pooling": lambda: with_vector(tiny()),
}


@pytest.mark.parametrize("make", OTHER_FILES.values(), ids=OTHER_FILES)
def test_a_file_may_be_given_its_texts_in_other_ways(make: Callable[[], onnx.ModelProto], tmp_path: Path):
    expected = adopt(save(tmp_path / "plain", tiny())).artifact
    hints = Hints() if make is OTHER_FILES["its own pooling"] else Hints(pooling="mean")
    artifact = adopt(save(tmp_path / "other", make()), hints=hints).artifact
    for found, wanted in zip(answers(artifact), answers(expected), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "part",
    ["read_source", "observed", "verify_norms", "make_graphs", "run_all", "fit_baseline", "accuracy"],
)
def test_nothing_is_written_where_a_part_fails(part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: Any) -> None:
        raise ExportError("It went wrong.")

    monkeypatch.setattr(adopter if hasattr(adopter, part) else writing, part, fail)
    with pytest.raises(ExportError, match="It went wrong"):
        adopt(save(tmp_path, tiny()))
    assert not (tmp_path / "mine").exists()


def test_the_canary_of_a_file_is_its_own_answer(tmp_path: Path):
    model, weights, bias = with_head(tiny(), 3)
    artifact = adopt(save(tmp_path, model), hints=Hints()).artifact
    canary = json.loads(artifact.files[CANARY])
    logits = np.array(canary["embedding"]) @ weights + bias
    np.testing.assert_allclose(canary["logits"], logits, rtol=1e-5, atol=1e-5)
    wrong = json.dumps(canary | {"logits": (logits + 1).tolist()}).encode()
    with pytest.raises(ArtifactError, match=r"does not reproduce its canary .*logits differ"):
        Encoder(Artifact(artifact.path, artifact.manifest, artifact.files | {CANARY: wrong}))


def test_adopting_a_file_loads_neither_torch_nor_transformers():
    code = "import export.adopt.onnx_file.adopter, sys; print({'torch', 'transformers'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "set()\n"
