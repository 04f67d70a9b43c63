"""The deep graph of an adopted encoder, against transformers in float64, one text at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from export.adopt.adds import expect_adds, with_adds
from export.adopt.baseline import look_deep
from export.adopt.directory.deep import DeepTransformer, to_both, verify_deep
from model.pretrained.packed import PackedTransformer
from model.pretrained.watched import is_norm
from runtime.artifact import Artifact
from runtime.drift.baseline import read_baseline
from runtime.errors import ExportError
from runtime.graph.deep import DeepGraph
from runtime.graph.encoder import Encoder
from runtime.graph.packing import PackedBatch, Tokens, pack
from runtime.graph.session import open_session
from runtime.graph.texts import make_input_encoder
from runtime.manifest import DEEP, MODEL
from runtime.statistics.deep import DeepState
from tests.adopted import EMBEDDING, make_texts, source_of
from tests.model.pretrained.networks import Texts, pack_for, random_texts, save_network
from tests.model.pretrained.networks import adopted as read

kinds = pytest.mark.parametrize("kind", ["embedding", "rerank", "multilabel"])


@pytest.fixture(scope="module")
def deep(embedding_artifact: Artifact) -> DeepGraph:
    return DeepGraph(embedding_artifact, Encoder(embedding_artifact))


@pytest.fixture(scope="module")
def sequences(embedding_artifact: Artifact) -> list[Tokens]:
    return [item.tokens for item in make_input_encoder(embedding_artifact).encode(make_texts())]


@pytest.fixture
def network(shared_path: Path) -> PackedTransformer:
    return read(source_of(EMBEDDING, shared_path))[1]


@contextmanager
def seen_by(bert: Any) -> Iterator[dict[str, list[torch.Tensor]]]:
    """What enters and leaves BERT's norms, and what its sublayers add to what, while it runs."""
    seen: dict[str, list[torch.Tensor]] = {name: [] for name in ("entered", "left", "x", "update")}

    def watch_norm(_: Any, inputs: Any, output: torch.Tensor) -> None:
        seen["entered"].append(inputs[0][0])
        seen["left"].append(output[0])

    def watch_sublayer(_: Any, inputs: Any) -> None:  # dense(inputs[0]) is added to inputs[1]
        seen["x"].append(inputs[1][0])

    hooks = [norm.register_forward_hook(watch_norm) for norm in bert.modules() if is_norm(norm)]
    for layer in bert.encoder.layer:
        for part in (layer.attention.output, layer.output):
            hooks.append(part.register_forward_pre_hook(watch_sublayer))
            hooks.append(part.dense.register_forward_hook(lambda _, __, output: seen["update"].append(output[0])))
    yield seen
    for hook in hooks:
        hook.remove()


@torch.no_grad()
def reference(network: PackedTransformer, sequences: list[Tokens]) -> list[NDArray[np.float64]]:
    """norm_inputs, norm_outputs and adds of all tokens, as transformers alone computes them."""
    rows = []
    bert = network.double().encoder
    for sequence in sequences:
        with seen_by(bert) as seen:
            bert(torch.from_numpy(sequence)[None])
        network.record.take()
        x, update = (torch.stack(seen[name], 1) for name in ("x", "update"))
        ratio, cosine = update.norm(dim=-1) / x.norm(dim=-1), torch.cosine_similarity(x, update, dim=-1)
        numbers = torch.stack([ratio, cosine], -1).flatten(1)
        rows.append([torch.cat(seen["entered"], -1), torch.cat(seen["left"], -1), numbers])
    return [torch.cat(parts).numpy() for parts in zip(*rows, strict=True)]


def test_what_norms_see_and_adds_add_is_what_transformers_computes(
    deep: DeepGraph, network: PackedTransformer, sequences: list[Tokens]
):
    found, expected = deep.run(pack(sequences[:40])), reference(network, sequences[:40])
    assert [part.shape[1] for part in found] == [5 * 32, 5 * 32, 4 * 2]
    for values, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(values, wanted, atol=1e-4 * np.abs(wanted).max())


def test_the_baseline_has_looked_at_all_texts(
    embedding_artifact: Artifact, network: PackedTransformer, sequences: list[Tokens]
):
    looks, (entered, left, added) = read_baseline(embedding_artifact).deep, reference(network, sequences)
    assert looks is not None and looks.fits(embedding_artifact.manifest.layers)
    assert (looks.requests, looks.tokens) == (320, len(left))
    np.testing.assert_allclose(looks.outputs.mean, left.mean(0), atol=1e-4)
    np.testing.assert_allclose(looks.outputs.std, left.std(0), rtol=1e-4)
    np.testing.assert_allclose(looks.largest.max(0), np.abs(entered).max(0), rtol=1e-4)
    np.testing.assert_allclose(looks.adds.mean, added.mean(0), rtol=1e-4, atol=1e-5)


def test_looks_are_at_few_tokens_at_a_time(deep: DeepGraph, monkeypatch: pytest.MonkeyPatch):
    batches: list[PackedBatch] = []

    def run(batch: PackedBatch) -> list[Any]:
        batches.append(batch)
        return [np.zeros((batch.tokens, columns), np.float32) for columns in (160, 160, 8)]

    monkeypatch.setattr(deep, "run", run)
    lengths = [3] * 40 + [200, 100, 400, 90]
    looks = look_deep(deep, [np.arange(length) for length in lengths])
    assert (looks.requests, looks.tokens) == (44, sum(lengths))
    assert all(batch.tokens <= 256 or batch.rows == 1 for batch in batches)


@kinds
def test_the_manifest_says_which_norms_have_an_add(kind: str, request: pytest.FixtureRequest):
    layers = request.getfixturevalue(f"{kind}_artifact").manifest.layers
    assert [layer.add for layer in layers] == [False, True, True, True, True]


@kinds
def test_weights_lie_in_the_served_graph_only(kind: str, request: pytest.FixtureRequest):
    artifact = request.getfixturevalue(f"{kind}_artifact")
    deep = onnx.load_from_string(artifact.files[DEEP])
    outside = [item for item in deep.graph.initializer if item.external_data]
    assert {entry.value for item in outside for entry in item.external_data if entry.key == "location"} == {MODEL}
    served = {item.name: item.raw_data for item in onnx.load_from_string(artifact.files[MODEL]).graph.initializer}
    for item in outside:
        place = {entry.key: entry.value for entry in item.external_data}
        start = int(place["offset"])
        assert artifact.files[MODEL][start : start + int(place["length"])] == served[item.name]
    assert all(len(item.raw_data) < 1024 for item in deep.graph.initializer)


def test_a_network_that_was_changed_after_export_is_refused(
    deep: DeepGraph, network: PackedTransformer, sequences: list[Tokens]
):
    module, adds = DeepTransformer(network), adds_of(network)
    assert verify_deep(deep, module, adds, sequences[:20]) < 1e-5
    with torch.no_grad():
        network.model.encoder.layer[1].output.LayerNorm.bias[3] += 0.1  # what leaves the last norm, and nothing else
    with pytest.raises(ExportError, match=r"^The deep graph differs from PyTorch by .*: nothing was written\.$"):
        verify_deep(deep, module, adds, sequences[:20])
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


def test_an_add_that_is_measured_elsewhere_is_refused(
    deep: DeepGraph, network: PackedTransformer, sequences: list[Tokens]
):
    adds = adds_of(network)
    adds[2] = adds[2]._replace(before=0)
    with pytest.raises(ExportError, match="The deep graph differs from PyTorch"):
        verify_deep(deep, DeepTransformer(network), adds, sequences[:20])


def adds_of(network: PackedTransformer) -> list[Any]:
    from export.adopt.adds import NormAdd

    return [NormAdd(number, number - 1, number, "x", "update") for number in range(1, len(network.norms))]


class Graph:
    """A graph with all outputs, run as the deep graph is."""

    def __init__(self, proto: onnx.ModelProto, module: DeepTransformer) -> None:
        self.session, _ = open_session(proto.SerializeToString(), "cpu", 1)
        self.network, self.layers = module.network, module.network.norms

    def run(self, batch: PackedBatch) -> list[NDArray[np.float32]]:
        encoder: Any = SimpleNamespace(values_name="input_ids", type_ids=self.network.type_ids)
        outputs = self.session.run(["norm_inputs", "norm_outputs", "adds"], Encoder.feeds(encoder, batch))
        return [output.reshape(batch.segment_ids.size, -1)[batch.token_index] for output in outputs]


def test_norms_of_another_width_are_measured_and_adds_that_no_norm_sees_are_left_out(tmp_path: Path):
    """ELECTRA's embeddings are 16 wide; its first sublayer adds to what was made wider, which no norm sees."""
    save_network(tmp_path, "electra")
    network, texts = read(tmp_path, "mean")[1], random_texts(types=False)
    module = DeepTransformer(network)
    both, adds = to_both(module, pack_for(network, Texts(texts.ids[3:6], texts.types[3:6])))
    layers = with_adds(network.norms, adds)
    assert [(layer.d_model, layer.add) for layer in layers] == [(16, False), (32, False)] + [(32, True)] * 3
    graph: Any = Graph(both, module)
    assert verify_deep(graph, module, adds, texts.ids) < 1e-5
    found = graph.run(pack_for(network, texts))
    assert [part.shape[1] for part in found] == [144, 144, 6]
    assert DeepState.of(9, *found, np.ones(len(found[0]), bool)).fits(layers)


def test_a_network_without_adds_has_none_to_expect(network: PackedTransformer):
    seen = np.ones((3, 5 * 32))
    assert expect_adds(seen, seen, network.norms, []).shape == (3, 0)
