import json
from hashlib import sha256
from pathlib import Path

import pytest
from pydantic import ValidationError

from runtime.artifact import Artifact
from runtime.manifest import Manifest, NormLayer, TextInputs, compute_digest
from runtime.precision import Plan, Precision


@pytest.fixture
def manifest(text_artifact: Artifact) -> Manifest:
    return text_artifact.manifest


def test_digest_is_the_sha256_of_the_canonical_content(manifest: Manifest):
    dumped = json.loads(manifest.model_dump_json()) | {"digest": ""}
    content = {name: value for name, value in dumped.items() if value is not None}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    assert manifest.digest == sha256(canonical).hexdigest()


def test_sealing_twice_changes_nothing(manifest: Manifest):
    assert manifest.sealed() == manifest


@pytest.mark.parametrize(
    "change", [{"labels": ["a", "b"]}, {"version": "2"}, {"d_model": 17}, {"layers": []}, {"training": {"x": 1}}]
)
def test_digest_changes_with_every_field(manifest: Manifest, change: dict[str, object]):
    assert manifest.model_copy(update=change).sealed().digest != manifest.digest


def test_manifest_from_before_precision_and_plan_keeps_its_digest(manifest: Manifest):
    old = json.loads(manifest.model_dump_json(exclude={"precision", "plan", "sizes", "clusters"})) | {"digest": ""}
    digest = sha256(json.dumps(old, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    found = Manifest.model_validate(old | {"digest": digest})
    assert compute_digest(old) == digest
    assert (found.precision, found.plan, found.precision_kind) == (None, None, "fp32")


def test_manifest_of_format_1_is_read_as_before():
    """One that was kept from then: its digest holds, and what it does not say has its default."""
    content = (Path(__file__).parent / "kept" / "manifest_format_1.json").read_bytes()
    found = Manifest.model_validate_json(content)
    assert (found.format, compute_digest(json.loads(content))) == (1, found.digest)
    assert (found.task, found.activation, found.normalize, found.unobserved) == ("classification", "softmax", True, [])
    assert isinstance(found.inputs, TextInputs)
    assert (found.inputs.special_tokens, found.inputs.pooling, found.sizes) == (False, "mean", None)


def test_manifest_of_format_3_is_read_as_before():
    """One that was kept from before GroupNorm and InstanceNorm were observed."""
    content = (Path(__file__).parent / "kept" / "manifest_format_3.json").read_bytes()
    found = Manifest.model_validate_json(content)
    assert (found.format, compute_digest(json.loads(content))) == (3, found.digest)
    assert [(layer.kind, layer.unit, layer.standardized) for layer in found.layers] == [
        ("batch_norm", "sample", True)
    ] * 2


def test_precision_and_plan_survive_json_and_change_the_digest(manifest: Manifest):
    speed = {"batch 1": 1.46, "batch 32": 0.1 + 0.2}
    changes: list[dict[str, object]] = [
        {"precision": Precision(kind="int8", accuracy={"fp32": 0.93, "int8": 0.92}, size={"fp32": 4, "int8": 1})},
        {"plan": Plan(name="unfused", onnxruntime="1.32.0", provider="p", speed={"unfused": speed})},
    ]
    for change in changes:
        changed = manifest.model_copy(update=change).sealed()
        assert changed.digest != manifest.digest
        written = changed.model_dump_json()
        assert Manifest.model_validate_json(written) == changed
        assert compute_digest(json.loads(written)) == changed.digest


def test_digest_survives_json(manifest: Manifest):
    assert compute_digest(json.loads(manifest.model_dump_json())) == manifest.digest


def test_digest_survives_floats_that_are_not_round(manifest: Manifest):
    odd = manifest.model_copy(update={"training": {"accuracy": 0.1 + 0.2, "source": "Zürich ☔"}}).sealed()
    assert compute_digest(json.loads(odd.model_dump_json(indent=2))) == odd.digest


@pytest.mark.parametrize(
    "change",
    [
        {"labels": ["one"]},
        {"activation": "identity"},
        {"inputs": {"kind": "audio"}},
        {"inputs": {"kind": "text"}},
        {"typo": 1},
        {"name": "n\nl"},
        {"name": "a\x1b[31m"},
        {"version": "1\r"},
        {"name": "a\u2028b"},
        {"name": "a\u202eb"},
        {"version": "\u2066"},
        {"name": "a\x7f"},
    ],
)
def test_manifest_refuses_what_cannot_be_served(manifest: Manifest, change: dict[str, object]):
    with pytest.raises(ValidationError):
        Manifest.model_validate(json.loads(manifest.model_dump_json()) | change)


@pytest.mark.parametrize("name", ["می\u200cخواهم", "क्\u200dष", "deux\u00a0mots", "👩\u200d💻", "a b"])
def test_names_of_all_languages_are_names(manifest: Manifest, name: str):
    assert Manifest.model_validate(json.loads(manifest.model_dump_json()) | {"name": name, "digest": ""}).name == name


def test_layers_tell_everything_about_a_norm(text_artifact: Artifact, feature_artifact: Artifact):
    assert [layer.name for layer in text_artifact.manifest.layers] == [
        "embeddings.norm",
        "blocks.0.attention.norm",
        "blocks.0.feed_forward.norm",
        "blocks.1.attention.norm",
        "blocks.1.feed_forward.norm",
    ]
    assert {(n.kind, n.placement, n.d_model, n.eps) for n in text_artifact.manifest.layers} == {
        ("layer_norm", "post", 16, 1e-5)
    }
    assert feature_artifact.manifest.layers[-1].name == "final_norm"
    assert all(has_running_moments(layer) for layer in feature_artifact.manifest.layers)
    assert not any(has_running_moments(layer) for layer in text_artifact.manifest.layers)


def has_running_moments(layer: NormLayer) -> bool:
    moments = (layer.running_mean, layer.running_variance)
    return all(values is not None and len(values) == layer.d_model for values in moments)
