import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from runtime.artifact import Artifact, read_artifact
from runtime.errors import ArtifactError, DeviceError
from runtime.graph import session as session_module
from runtime.graph.batch import EncodedBatch
from runtime.graph.encoder import INT8_CPU_ONLY, Encoder
from runtime.graph.packing import like_lengths, pack
from runtime.graph.session import Placement
from runtime.manifest import CANARY, MODEL, PoolingKind
from runtime.options import Device
from runtime.precision import Precision
from tests.helpers import Export, random_sequences, rewrite

ANSWERS = ("logits", "embedding", "norm_statistics")


@pytest.fixture(params=["text", "feature"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def encoder(request: pytest.FixtureRequest, kind: str) -> Encoder:
    return request.getfixturevalue(f"{kind}_encoder")


@pytest.fixture
def sequences(request: pytest.FixtureRequest, kind: str) -> list[np.ndarray]:
    return random_sequences(request.getfixturevalue(f"{kind}_export")[1], 20)


def assert_same_answers(found: EncodedBatch, expected: EncodedBatch) -> None:
    for name in ANSWERS:
        ours, theirs = getattr(found, name), getattr(expected, name)
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_answers_do_not_change_with_the_pack_width(encoder: Encoder, sequences: list[np.ndarray]):
    expected = encoder.run(sequences)
    for width in (1, 12, 17, 200):
        assert_same_answers(encoder.run_packed(pack(sequences, width)), expected)


def test_answers_do_not_change_with_their_neighbours(encoder: Encoder, sequences: list[np.ndarray]):
    together = encoder.run(sequences).split([1] * len(sequences))
    for row, sequence in zip(together, sequences, strict=True):
        assert_same_answers(row, encoder.run([sequence]))


def test_answers_follow_the_order_of_the_rows(encoder: Encoder, sequences: list[np.ndarray]):
    backwards = encoder.run(sequences[::-1])
    np.testing.assert_allclose(backwards.logits[::-1], encoder.run(sequences).logits, rtol=1e-5, atol=1e-5)


def test_run_has_the_shapes_it_promises(encoder: Encoder, sequences: list[np.ndarray], kind: str):
    batch = encoder.run(sequences)
    tokens, layers = sum(map(len, sequences)), len(encoder.manifest.layers)
    assert batch.logits.shape == (20, 3)
    assert batch.embedding.shape == (20, 16)
    assert batch.norm_statistics.shape == (tokens, 2 * layers)
    assert batch.feature_moments.shape == (layers if kind == "feature" else 0, 2, 16)
    assert batch.lengths.tolist() == [len(sequence) for sequence in sequences]


@pytest.mark.parametrize("counts", [[3, 1, 16], [20], [1] * 20])
def test_split_cuts_a_batch_without_a_gap(encoder: Encoder, sequences: list[np.ndarray], counts: list[int]):
    batch = encoder.run(sequences)
    parts = batch.split(counts)
    assert [len(part.lengths) for part in parts] == counts
    assert [len(part.norm_statistics) for part in parts] == [part.lengths.sum() for part in parts]
    for name in (*ANSWERS, "lengths"):
        np.testing.assert_array_equal(np.concatenate([getattr(part, name) for part in parts]), getattr(batch, name))


@pytest.mark.parametrize("name", ["logits", "norm_statistics"])
@pytest.mark.parametrize("spoil", ["value", "shape"])
def test_graph_that_does_not_reproduce_its_canary_is_refused(
    text_artifact: Artifact, tmp_path: Path, name: str, spoil: str
):
    canary = json.loads(text_artifact.files[CANARY])
    canary[name] = canary[name][:-1] if spoil == "shape" else (np.array(canary[name]) + 0.01).tolist()
    artifact = read_artifact(rewrite(tmp_path / "1", text_artifact, {CANARY: json.dumps(canary).encode()}))
    with pytest.raises(ArtifactError, match=f"canary on CPUExecutionProvider .{name} differ") as caught:
        Encoder(artifact)
    assert str(artifact.path / MODEL) in str(caught.value)


@pytest.mark.parametrize(("difference", "refused"), [(0.03, False), (0.5, True)])
def test_canary_of_int8_leaves_room_for_values_that_are_rounded_apart(
    text_artifact: Artifact, tmp_path: Path, difference: float, refused: bool
):
    canary = json.loads(text_artifact.files[CANARY])
    canary["logits"] = (np.array(canary["logits"]) + difference).tolist()
    files = {CANARY: json.dumps(canary).encode()}
    artifact = read_artifact(rewrite(tmp_path / "1", text_artifact, files, precision=Precision(kind="int8")))
    with pytest.raises(ArtifactError, match="logits differ") if refused else nullcontext():
        Encoder(artifact)


def test_int8_runs_on_the_cpu_and_says_why(text_artifact: Artifact, tmp_path: Path):
    artifact = read_artifact(rewrite(tmp_path / "1", text_artifact, precision=Precision(kind="int8")))
    placement = Encoder(artifact, "auto").placement
    assert (placement.device, placement.reason) == ("cpu", INT8_CPU_ONLY)
    with pytest.raises(DeviceError, match=r"Device cuda is not possible: .*--precision fp16"):
        Encoder(artifact, "cuda")


@pytest.mark.parametrize("content", [b"", b"not a graph", b"\x08\x07"])
def test_graph_that_does_not_load_is_refused(text_artifact: Artifact, tmp_path: Path, content: bytes):
    assert_model_refused(rewrite(tmp_path / "1", text_artifact, {MODEL: content}))


def test_graph_of_another_artifact_is_refused(text_artifact: Artifact, feature_artifact: Artifact, tmp_path: Path):
    assert_model_refused(rewrite(tmp_path / "1", text_artifact, {MODEL: feature_artifact.files[MODEL]}))


def assert_model_refused(path: Path) -> None:
    with pytest.raises(ArtifactError) as caught:
        Encoder(read_artifact(path))
    assert str(path / MODEL) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture
def padded(text_artifact: Artifact) -> Encoder:
    """The text artifact, as if its graph took one text in a pack alone."""
    return Encoder(replace(text_artifact, manifest=text_artifact.manifest.model_copy(update={"graph": "padded"})))


@pytest.fixture
def texts(text_export: Export) -> list[np.ndarray]:
    """Enough of them that their padding is worth several runs."""
    return random_sequences(text_export[1], 80)


def test_a_padded_graph_gives_what_a_packed_one_gives(padded: Encoder, text_encoder: Encoder, texts: list[np.ndarray]):
    found, expected = padded.run(texts), text_encoder.run(texts)
    assert_same_answers(found, expected)
    np.testing.assert_array_equal(found.lengths, expected.lengths)
    np.testing.assert_array_equal(found.token_lengths, expected.token_lengths)
    assert found.classes == expected.classes
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5)
    np.testing.assert_allclose(found.evidence, expected.evidence, rtol=1e-5)
    assert found.feature_moments.shape == expected.feature_moments.shape


def test_a_padded_text_gives_what_it_gives_alone(padded: Encoder, texts: list[np.ndarray]):
    for row, text in zip(padded.run(texts).split([1] * len(texts)), texts, strict=True):
        assert_same_answers(row, padded.run([text]))


def test_padded_answers_follow_the_order_of_the_rows(padded: Encoder, texts: list[np.ndarray]):
    found, backwards = padded.run(texts), padded.run(texts[::-1])
    assert backwards.lengths.tolist() == found.lengths[::-1].tolist()
    assert backwards.classes == found.classes[::-1]
    np.testing.assert_allclose(backwards.logits[::-1], found.logits, rtol=1e-5, atol=1e-5)
    tokens = backwards.split([1] * len(texts))[::-1]
    np.testing.assert_allclose(
        np.concatenate([row.norm_statistics for row in tokens]), found.norm_statistics, rtol=1e-5, atol=1e-5
    )


def test_a_padded_run_counts_what_it_computes(padded: Encoder, texts: list[np.ndarray]):
    """Padding among them; and each group of rows tells the tokens of all."""
    lengths = [len(text) for text in texts]
    groups = like_lengths(lengths)
    computed = sum(len(group) * max(lengths[row] for row in group) for group in groups)
    found = padded.run(texts)
    assert len(groups) > 1 and found.computed_tokens == computed > sum(lengths)
    assert [part.computed_tokens for part in found.split([30, 50])] == [computed] * 2
    assert padded.run(texts[:1]).computed_tokens == lengths[0]
    assert padded.pack_seconds > 0


@pytest.mark.parametrize("pooling", ["cls", "last", "weighted"])
def test_padded_texts_are_pooled_as_the_manifest_says(
    pooling: PoolingKind, padded: Encoder, text_encoder: Encoder, texts: list[np.ndarray]
):
    padded.pooling = pooling
    expected = text_encoder.run_packed(pack(texts, pooling=pooling)).embedding
    np.testing.assert_allclose(padded.run(texts).embedding, expected, rtol=1e-5, atol=1e-5)


def test_encoder_says_where_it_runs(encoder: Encoder):
    assert (encoder.placement.device, encoder.placement.provider) == ("cpu", "CPUExecutionProvider")


@pytest.mark.parametrize(
    ("said", "reason", "refusal"),
    [
        ("", "cannot run its canary", ArtifactError),  # it loses the statistics, as fused kernels do
        ("CUDA failure 2: out of memory ; GPU=0", "free memory on the GPU", DeviceError),
    ],
)
def test_auto_goes_back_to_the_cpu_where_a_gpu_answers_wrongly_or_not(
    text_artifact: Artifact, monkeypatch: pytest.MonkeyPatch, said: str, reason: str, refusal: type[Exception]
):
    """The made-up GPU runs the graph on the CPU."""

    class Broken:
        def __init__(self, session: ort.InferenceSession) -> None:
            self.session, self.get_outputs = session, session.get_outputs

        def run(self, names: list[str], feeds: dict[str, np.ndarray]) -> list[np.ndarray | None]:
            if said:
                raise RuntimeError(said)
            answers = zip(names, self.session.run(names, feeds), strict=True)
            return [None if name == "norm_statistics" else answer for name, answer in answers]

    def open_session(model: bytes, device: Device, threads: int, **more) -> tuple[object, Placement]:
        session, placement = session_module.open_session(model, "cpu", threads, **more)
        if device == "cpu":
            return session, placement
        return Broken(session), replace(placement, requested=device, device="cuda", provider="CUDAExecutionProvider")

    monkeypatch.setattr("runtime.graph.encoder.open_session", open_session)
    encoder = Encoder(text_artifact, "auto")
    assert (encoder.placement.requested, encoder.placement.device) == ("auto", "cpu")
    assert reason in encoder.placement.reason
    with pytest.raises(refusal, match=reason):
        Encoder(text_artifact, "cuda")
