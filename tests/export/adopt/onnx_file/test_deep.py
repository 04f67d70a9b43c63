"""The deep graph of a file: what it gives out is that of float64, one text at a time."""

import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from export.adopt.adds import NormAdd, expect_adds
from model.pretrained.watched import is_norm
from runtime.artifact import read_artifact
from runtime.drift.baseline import read_baseline
from runtime.graph.deep import DeepGraph
from runtime.graph.packing import Tokens
from runtime.manifest import NO_DEEP
from tests.export.adopt.norms.exports import exported, fused, in_half, served
from tests.export.adopt.onnx_file.files import save, tiny, weight
from tests.export.adopt.onnx_file.looks import ROOT, Floats, compare, deep_of, seen, with_norm
from tests.export.adopt.onnx_file.test_adopter import IDS, adopt

SQUARES = "s = Mul(mixed, mixed) v = ReduceMean <axes = [-1]> (s) e = Add(v, eps) r = Sqrt(e) "
NORMS = {  # how the tiny encoder's norm is written; how often what enters it was added, its kind, whether with a bias
    "LayerNorm": ("last_hidden_state = LayerNormalization(mixed, weight, bias)", 1, "layer_norm", True),
    "no bias": ("last_hidden_state = LayerNormalization(mixed, weight)", 1, "layer_norm", False),
    "decomposed": (ROOT + "w = Mul(n, weight) last_hidden_state = Add(w, bias)", 1, "layer_norm", True),
    "decomposed, no bias": (ROOT + "last_hidden_state = Mul(n, weight)", 1, "layer_norm", False),
    "fused": (
        "last_hidden_state = com.microsoft.SkipLayerNormalization <epsilon = 0.00001> (mixed, mixed, weight, bias)",
        2,
        "layer_norm",
        True,
    ),
    "RMSNorm": ("last_hidden_state = SimplifiedLayerNormalization <axis = -1> (mixed, weight)", 1, "rms_norm", False),
    "decomposed RMSNorm": (
        SQUARES + "i = Reciprocal(r) n = Mul(mixed, i) c = Cast <to = 1> (n) last_hidden_state = Mul(weight, c)",
        1,
        "rms_norm",
        False,
    ),
    "fused RMSNorm": (
        "last_hidden_state = com.microsoft.SkipSimplifiedLayerNormalization <epsilon = 0.00001> (mixed, mixed, weight)",
        2,
        "rms_norm",
        False,
    ),
}


@pytest.mark.parametrize(("body", "times", "kind", "bias"), NORMS.values(), ids=NORMS)
def test_what_enters_and_leaves_a_norm_is_that_of_float64(body: str, times: int, kind: str, bias: bool, tmp_path: Path):
    model = with_norm(body)
    adopted = adopt(save(tmp_path, model))
    assert 0 <= adopted.errors["deep"] < 1e-5 and NO_DEEP not in adopted.artifact.manifest.training
    wide = {name: weight(model, name).astype(np.float64) for name in ("table", "positions", "weight", "bias")}
    expected = []
    for ids in IDS:
        words = wide["table"][ids] + wide["positions"][: len(ids)]
        x = times * (words + words.mean(0))
        d = x - x.mean(1, keepdims=True) if kind == "layer_norm" else x
        y = d / np.sqrt((d**2).mean(1, keepdims=True) + 1e-5) * wide["weight"]
        expected.append([x, y + wide["bias"] if bias else y])
    deep = deep_of(read_artifact(adopted.artifact.path))
    compare(seen(deep, IDS), expected)
    compare([row for ids in IDS for row in seen(deep, [ids])], expected)  # padding changes nothing


@torch.no_grad()
def reference(family: str, sequences: list[Tokens]) -> list[list[Floats]]:
    """What transformers' norms see and give in float64."""
    network = copy.deepcopy(served(family)).double()
    watched: list[tuple[torch.Tensor, torch.Tensor]] = []
    for module in network.modules():
        if is_norm(module):
            module.register_forward_hook(lambda _, inputs, output: watched.append((inputs[0][0], output[0])))
    rows = []
    for ids in sequences:
        watched.clear()
        network(torch.from_numpy(ids)[None], torch.ones((1, len(ids)), dtype=torch.int64))
        rows.append([torch.cat(values, -1).numpy() for values in zip(*watched, strict=True)])
    return rows


FILES: dict[str, tuple[str, int, Callable[[bytes, Path], bytes], float]] = {
    "decomposed": ("bert", 11, lambda content, _: content, 1e-5),
    "named": ("roberta", 17, lambda content, _: content, 1e-5),
    "RMSNorm": ("t5", 14, lambda content, _: content, 1e-5),
    "RMSNorm between casts": ("eurobert", 18, lambda content, _: content, 1e-5),
    "fused": ("bert", 14, fused, 1e-5),
    "half": ("bert", 14, in_half, 1e-2),
    "half, RMSNorm": ("eurobert", 14, in_half, 1e-2),
}


@pytest.mark.parametrize(("family", "opset", "change", "error"), FILES.values(), ids=FILES)
def test_what_all_norms_see_is_what_transformers_computes(
    family: str, opset: int, change: Callable[[bytes, Path], bytes], error: float, tmp_path: Path
):
    artifact = adopt(save(tmp_path, change(exported(family, opset), tmp_path))).artifact
    compare(seen(deep_of(artifact), IDS), reference(family, IDS), error)


ADDS = {
    "post": ("bert", 11, lambda content, _: content, [NormAdd(n, n - 1, n, "", "") for n in range(1, 5)]),
    "pre": ("t5", 14, lambda content, _: content, [NormAdd(n, n, n + 1, "", "") for n in range(4)]),
    "pre, between casts": (
        "eurobert",
        18,
        lambda content, _: content,
        [NormAdd(n, n, n + 1, "", "") for n in range(4)],
    ),
    "half": ("bert", 14, in_half, []),
    "fused": ("bert", 14, fused, []),
}


@pytest.mark.parametrize(("family", "opset", "change", "adds"), ADDS.values(), ids=ADDS)
def test_what_adds_add_is_measured_where_norms_see_both_sides(
    family: str, opset: int, change: Callable[[bytes, Path], bytes], adds: list[NormAdd], tmp_path: Path
):
    artifact = adopt(save(tmp_path, change(exported(family, opset), tmp_path))).artifact
    layers = artifact.manifest.layers
    assert [number for number, layer in enumerate(layers) if layer.add] == [add.norm for add in adds]
    deep, looks = deep_of(artifact), read_baseline(artifact).deep
    assert looks is not None and looks.fits(layers)
    for ids, (entered, left) in zip(IDS, reference(family, IDS), strict=True):
        (batch,) = deep.batches([ids])
        np.testing.assert_allclose(deep.run(batch)[2], expect_adds(entered, left, layers, adds), atol=2e-5)


def test_the_baseline_has_looked_at_all_texts(tmp_path: Path):
    artifact = adopt(save(tmp_path, tiny()), texts=40).artifact
    looks = read_baseline(artifact).deep
    assert looks is not None and looks.fits(artifact.manifest.layers) and looks.requests == 40
    assert not any(layer.add for layer in artifact.manifest.layers)


def test_texts_of_unlike_lengths_do_not_run_together(tmp_path: Path):
    deep = deep_of(adopt(save(tmp_path, tiny())).artifact)
    texts = [np.full(length, 5) for length in (200, 2, 3, 199)]
    batches = deep.batches(texts)
    assert [batch.values.shape for batch in batches] == [(2, 200), (2, 3)]
    packed: Any = SimpleNamespace(encoder=SimpleNamespace(padded=False))
    assert [batch.rows for batch in DeepGraph.batches(packed, texts)] == [4]
