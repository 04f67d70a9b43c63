"""The deep graph against PyTorch in float64, with weights that it shares with the served graph."""

import copy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from export.deep import OUTPUTS, DeepEncoder, update_measures
from export.graph import as_tensors
from export.verify import verify_deep
from runtime.artifact import Artifact, read_artifact
from runtime.errors import ArtifactError, DeviceError
from runtime.graph import session as session_module
from runtime.graph.deep import DeepGraph
from runtime.graph.encoder import Encoder
from runtime.graph.packing import pack
from runtime.manifest import DEEP, MODEL
from runtime.statistics.deep import measure
from service.norm_stats.deep import deep_statistics
from tests.helpers import Export, random_sequences, rewrite


@pytest.fixture(params=["text", "feature"])
def export(request: pytest.FixtureRequest) -> Export:
    return request.getfixturevalue(f"{request.param}_export")


def test_deep_graph_agrees_with_pytorch(export: Export):
    artifact, served = export
    assert verify_deep(DeepGraph(artifact, Encoder(artifact)), DeepEncoder(served.encoder)) < 1e-5


def test_measured_state_matches_a_float64_pass(export: Export):
    artifact, served = export
    batch = pack(random_sequences(served, 9, seed=1))
    wide = [part.double() if part.is_floating_point() else part for part in as_tensors(batch)]
    with torch.inference_mode():
        entered, left, added = (
            part.flatten(0, 1).flatten(1).numpy()[batch.token_index]
            for part in DeepEncoder(copy.deepcopy(served.encoder).double())(*wide)[-len(OUTPUTS) :]
        )
    state = measure(DeepGraph(artifact, Encoder(artifact)).run, batch)
    assert (state.requests, state.tokens) == (9, batch.tokens)
    np.testing.assert_allclose(state.outputs.mean, left.mean(0), atol=1e-5)
    np.testing.assert_allclose(state.outputs.std, left.std(0), rtol=1e-4)
    np.testing.assert_allclose(state.largest.max(0), np.abs(entered).max(0), rtol=1e-4)
    np.testing.assert_allclose(state.adds.mean, added.mean(0), rtol=1e-3, atol=1e-5)


def test_deep_statistics_do_not_depend_on_the_packing(export: Export):
    artifact, served = export
    graph, sequences = DeepGraph(artifact, Encoder(artifact)), random_sequences(served, 6, seed=2)
    together, apart = measure(graph.run, pack(sequences)), measure(graph.run, pack(sequences[:1]))
    for sequence in sequences[1:]:
        apart = apart.merge(measure(graph.run, pack([sequence])))
    assert (together.requests, together.tokens) == (apart.requests, apart.tokens)
    np.testing.assert_allclose(together.outputs.mean, apart.outputs.mean, atol=1e-6)
    np.testing.assert_allclose(together.largest, apart.largest, rtol=1e-5)


def test_update_measures_are_ratio_and_cosine():
    x, update = torch.tensor([[3.0, 4.0]]), torch.tensor([[-4.0, 3.0]])
    torch.testing.assert_close(update_measures(x, 2 * update), torch.tensor([[2.0, 0.0]]))
    torch.testing.assert_close(update_measures(x, -0.5 * x), torch.tensor([[0.5, -1.0]]))


def test_weights_lie_in_the_served_graph_only(text_artifact: Artifact):
    deep = onnx.ModelProto()
    deep.ParseFromString(text_artifact.files[DEEP])
    outside = [tensor for tensor in deep.graph.initializer if tensor.external_data]
    assert outside and {entry.value for t in outside for entry in t.external_data if entry.key == "location"} == {MODEL}
    assert sum(len(tensor.raw_data) for tensor in deep.graph.initializer) < len(text_artifact.files[MODEL]) / 4


def test_artifact_without_a_deep_graph_is_served_without(text_artifact: Artifact, text_encoder: Encoder):
    files = {name: content for name, content in text_artifact.files.items() if name != DEEP}
    assert DeepGraph.of(Artifact(text_artifact.path, text_artifact.manifest, files), text_encoder) is None


def test_a_deep_graph_without_adds_is_run_without(text_artifact: Artifact):
    deep = onnx.load_from_string(text_artifact.files[DEEP])
    del deep.graph.output[2]
    layers = [layer.model_copy(update={"add": False}) for layer in text_artifact.manifest.layers]
    artifact = replace(text_artifact, files=text_artifact.files | {DEEP: deep.SerializeToString()})
    artifact = replace(artifact, manifest=artifact.manifest.model_copy(update={"layers": layers}))
    batch = pack([np.arange(1, 6), np.arange(2, 4)])
    state = measure(DeepGraph(artifact, Encoder(artifact)).run, batch)
    assert (state.requests, state.tokens, len(state.adds.count)) == (2, 7, 0)
    assert state.fits(layers) and not state.fits(text_artifact.manifest.layers)
    assert deep_statistics(artifact.manifest, state, state, 1, every_feature=False).baseline.update is None


def test_a_graph_with_other_outputs_is_refused(text_artifact: Artifact):
    artifact = replace(text_artifact, files=text_artifact.files | {DEEP: text_artifact.files[MODEL]})
    with pytest.raises(ArtifactError, match=r"deep\.onnx does not run \(ValueError: it has the outputs logits"):
        DeepGraph(artifact, Encoder(artifact))


def test_norms_of_different_width_are_compared_each():
    """A graph of two norms, 2 and 3 features wide."""
    rng, batch = np.random.default_rng(0), pack([np.arange(1, 6), np.arange(2, 4)])
    inputs = rng.standard_normal((7, 5)).astype(np.float32)
    seen = [
        part
        for values in (inputs[:, :2], inputs[:, 2:])
        for part in (values.mean(1), 1 / np.sqrt(values.var(1) + 1e-5))
    ]
    deep: Any = DeepGraph.__new__(DeepGraph)
    deep.layers = [SimpleNamespace(d_model=width, eps=1e-5) for width in (2, 3)]
    deep.run = lambda _: [inputs]
    deep.encoder = SimpleNamespace(run_packed=lambda _: SimpleNamespace(norm_statistics=np.stack(seen, 1)))
    assert deep.difference(batch) < 1e-5
    inputs[3, 4] += 1
    assert deep.difference(batch) > 0.1


@pytest.mark.parametrize("content", [b"", b"no graph"])
def test_deep_graph_that_does_not_load_is_refused(text_artifact: Artifact, tmp_path: Path, content: bytes):
    artifact = read_artifact(rewrite(tmp_path / "1", text_artifact, {DEEP: content}))
    with pytest.raises(ArtifactError, match=r"deep\.onnx does not run"):
        DeepGraph(artifact, Encoder(artifact))


def test_deep_graph_of_another_network_is_refused(text_artifact: Artifact, tmp_path: Path):
    deep = onnx.ModelProto()
    deep.ParseFromString(text_artifact.files[DEEP])
    place = next(t for t in deep.graph.initializer if t.external_data and t.dims[-1] == 16).external_data
    for entry in place:
        if entry.key == "offset":
            entry.value = str(int(entry.value) + 4)  # weights that are not its own
    artifact = read_artifact(rewrite(tmp_path / "1", text_artifact, {DEEP: deep.SerializeToString()}))
    with pytest.raises(ArtifactError, match="not a graph of the same network"):
        DeepGraph(artifact, Encoder(artifact))


def test_a_gpu_without_room_for_the_deep_graph_leaves_it_to_the_cpu_under_auto_alone(
    text_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
):
    encoder, asked = Encoder(text_artifact), list[str]()

    def open_session(model: bytes, device: str, *arguments: Any, **options: Any) -> Any:
        asked.append(device)
        if device == "cuda":
            raise DeviceError("Device cuda is not available: out of memory on the GPU.")
        return session_module.open_session(model, "cpu", *arguments, **options)

    monkeypatch.setattr("runtime.graph.deep.open_session", open_session)
    encoder.placement = replace(encoder.placement, device="cuda", requested="auto")
    assert DeepGraph(text_artifact, encoder).run(pack([np.ones(3, np.int64)])) and asked == ["cuda", "cpu"]
    encoder.placement = replace(encoder.placement, requested="cuda")
    with pytest.raises(DeviceError, match="out of memory"):
        DeepGraph(text_artifact, encoder)
