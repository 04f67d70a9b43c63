"""bf16 by OpenVINO: the answers of float32 within its rounding, statistics too; refused, or fp32, where there is none.

On a processor without bf16 the tests that run a graph say so to nobody: OpenVINO computes it in float32 then.
"""

import os
import threading
from dataclasses import replace

import numpy as np
import onnxruntime as ort
import pytest

from export.precision.bf16 import in_bf16
from runtime.artifact import Artifact
from runtime.errors import ArtifactError, DeviceError
from runtime.graph import openvino_session
from runtime.graph.deep import DeepGraph
from runtime.graph.encoder import Encoder
from runtime.graph.openvino_session import BF16, OpenVinoSession, capabilities, why_not
from runtime.graph.packing import pack
from runtime.graph.texts import make_input_encoder
from runtime.manifest import MODEL
from tests.adopted import EMBEDDING, make_inputs


@pytest.fixture
def lowered(embedding_artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> Artifact:
    """In bf16, as on a processor that has it."""
    monkeypatch.setattr(openvino_session, "capabilities", lambda: ["BF16", "FP32"])
    return in_bf16(embedding_artifact)


def feeds_of(encoder: Encoder, rows: list[np.ndarray]) -> dict[str, np.ndarray]:
    return encoder.feeds(pack(rows, pooling=encoder.pooling))


def sequences(artifact: Artifact, count: int = 40) -> list[np.ndarray]:
    return [item.tokens for item in make_input_encoder(artifact).encode(make_inputs(EMBEDDING)[:count])]


def test_float32_is_onnx_runtimes(embedding_artifact: Artifact):
    """Names, shapes and values, packed and alone; whatever was asked for, in that order."""
    encoder = Encoder(embedding_artifact)
    session = OpenVinoSession(embedding_artifact.files[MODEL], 1, "f32")
    assert [port.name for port in session.get_inputs()] == [port.name for port in encoder.session.get_inputs()]
    assert [port.name for port in session.get_outputs()] == encoder.output_names
    tokens = sequences(embedding_artifact)
    for rows in (tokens, tokens[:1], tokens[:7]):
        feeds = feeds_of(encoder, rows)
        ours, theirs = session.run(None, feeds), encoder.session.run(None, feeds)
        for found, expected in zip(ours, theirs, strict=True):
            assert found.dtype == expected.dtype
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        (reversed_last,) = session.run(encoder.output_names[-1:], feeds)
        np.testing.assert_array_equal(reversed_last, ours[-1])


def test_answers_are_arrays_of_their_own(embedding_artifact: Artifact):
    encoder, tokens = Encoder(embedding_artifact), sequences(embedding_artifact)
    session = OpenVinoSession(embedding_artifact.files[MODEL], 1)
    first = session.run(["embedding"], feeds_of(encoder, tokens[:3]))[0]
    kept = first.copy()
    session.run(["embedding"], feeds_of(encoder, tokens[3:6]))
    np.testing.assert_array_equal(first, kept)


def test_a_run_in_another_thread_waits(embedding_artifact: Artifact):
    encoder, tokens = Encoder(embedding_artifact), sequences(embedding_artifact)
    session = OpenVinoSession(embedding_artifact.files[MODEL], 1)
    feeds = [feeds_of(encoder, tokens[: 5 + place]) for place in range(4)]
    expected = [session.run(None, each) for each in feeds]
    found: list[list[np.ndarray]] = [[] for _ in feeds]

    def work(place: int) -> None:
        for _ in range(10):
            found[place] = session.run(None, feeds[place])

    threads = [threading.Thread(target=work, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for ours, theirs in zip(found, expected, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one, other)


def test_an_artifact_in_bf16_answers_and_observes_as_float32(embedding_artifact: Artifact, lowered: Artifact):
    exact, encoder, tokens = Encoder(embedding_artifact), Encoder(lowered), sequences(lowered)
    assert (encoder.placement.precision, encoder.placement.precision_fallback) == ("bf16", "")
    assert encoder.placement.engine.startswith("openvino 20") and encoder.placement.provider == "CPU"
    before, after = exact.run(tokens), encoder.run(tokens)
    cosines = np.vecdot(before.embedding, after.embedding) / np.prod(
        [np.linalg.norm(batch.embedding, axis=1) for batch in (before, after)], axis=0
    )
    assert cosines.min() > 0.999
    inv_std = before.norm_statistics[:, 1::2]
    assert np.abs(after.norm_statistics[:, 1::2] / inv_std - 1).max() < 0.05
    assert (np.abs(after.norm_statistics[:, 0::2] - before.norm_statistics[:, 0::2]) * inv_std).max() < 0.05
    DeepGraph(lowered, encoder)  # in float32, and compared with the served one


def test_bf16_is_really_computed(embedding_artifact: Artifact):
    """Rounded to 8 bits: further from float32 than float32's own errors, and no further than that."""
    if BF16 not in capabilities():
        pytest.skip("this processor has no bf16")
    tokens = sequences(embedding_artifact)
    before, after = (Encoder(each).run(tokens).embedding for each in (embedding_artifact, in_bf16(embedding_artifact)))
    assert 1e-4 < np.abs(before - after).max() / np.abs(before).max() < 3e-2


def test_without_bf16_it_is_refused_or_runs_in_float32(lowered: Artifact, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(openvino_session, "capabilities", lambda: ["FP32", "INT8"])
    assert "neither avx512_bf16 nor AMX" in why_not()
    with pytest.raises(DeviceError, match=r"^There is no bf16 here \(this processor .*ADDNORM_ALLOW_FP32=true\)\.$"):
        Encoder(lowered)
    encoder = Encoder(lowered, "auto", allow_fp32=True)
    assert isinstance(encoder.session, ort.InferenceSession)
    assert (encoder.placement.precision, encoder.placement.device) == ("fp32", "cpu")
    assert "avx512_bf16" in encoder.placement.precision_fallback and encoder.placement.requested == "auto"


def test_without_openvino_it_says_how_to_install_it(lowered: Artifact, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(openvino_session, "find_spec", lambda _: None)
    with pytest.raises(
        DeviceError, match=r"no bf16 here \(the openvino extra is missing, pip install 'addnorm\[openvino\]'\)"
    ):
        Encoder(lowered)
    assert Encoder(lowered, allow_fp32=True).placement.precision == "fp32"


def test_a_gpu_by_name_is_refused_and_auto_takes_the_cpu(lowered: Artifact):
    with pytest.raises(DeviceError, match="Device cuda is not possible: a bf16 artifact runs on the CPU alone"):
        Encoder(lowered, "cuda")
    assert Encoder(lowered, "auto").placement.device == "cpu"


def test_openvino_that_does_not_work_is_told(lowered: Artifact, monkeypatch: pytest.MonkeyPatch):
    def broken() -> list[str]:
        raise ImportError("libtbb.so.12: cannot open shared object file")

    monkeypatch.setattr(openvino_session, "capabilities", broken)
    with pytest.raises(DeviceError, match=r"no bf16 here \(openvino does not work: libtbb.so.12: cannot open"):
        Encoder(lowered)
    assert "libtbb" in Encoder(lowered, allow_fp32=True).placement.precision_fallback


@pytest.mark.parametrize("content", [b"", b"no graph", b"\x08\x0a"])
def test_what_is_no_graph_is_refused_in_a_sentence(content: bytes, lowered: Artifact):
    with pytest.raises(
        ArtifactError, match=r"model\.onnx does not load \(RuntimeError: .*\): export it again\.$"
    ) as found:
        Encoder(replace(lowered, files=lowered.files | {MODEL: content}))
    assert "\n" not in str(found.value)


def test_a_graph_survives_a_fork(embedding_artifact: Artifact):
    """The service opens graphs once, and forks its workers."""
    encoder, tokens = Encoder(embedding_artifact), sequences(embedding_artifact)
    session = OpenVinoSession(embedding_artifact.files[MODEL], 1)
    feeds = feeds_of(encoder, tokens)
    expected = session.run(None, feeds)
    if (child := os.fork()) == 0:
        try:
            same = all(map(np.array_equal, session.run(None, feeds), expected))
        except BaseException:
            same = False
        os._exit(0 if same else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("rows", [1, 3, 40])
def test_packs_are_as_wide_as_a_multiple_of_sixteen(rows: int, embedding_artifact: Artifact, lowered: Artifact):
    """What fills them up is not seen: answers, statistics and counts are of the tokens alone."""
    exact, encoder, tokens = Encoder(embedding_artifact), Encoder(lowered), sequences(lowered)[:rows]
    before, after = exact.run(tokens), encoder.run(tokens)
    assert after.norm_statistics.shape == before.norm_statistics.shape == (sum(map(len, tokens)), 10)
    np.testing.assert_array_equal(after.token_lengths, before.token_lengths)
    np.testing.assert_allclose(after.embedding, before.embedding, atol=0.02 * np.abs(before.embedding).max())
    assert after.computed_tokens % 16 == 0 and after.computed_tokens >= before.computed_tokens
