"""Lower precision answers as float32 does, keeps its statistics, and is refused where it costs accuracy."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

import export.precision.int8
from export.exporter import export_run
from export.precision.choice import Asked
from export.precision.fp16 import to_fp16
from export.precision.int8 import activation_grid
from export.precision.lower import batches, encode, lower
from model.data import Dataset, load_dataset
from runtime.artifact import Artifact
from runtime.errors import ExportError
from runtime.graph.batch import token_values
from runtime.graph.encoder import EncodedBatch, Encoder
from runtime.graph.inputs import InputEncoder
from runtime.graph.packing import pack
from runtime.graph.session import open_session
from runtime.graph.texts import make_input_encoder
from runtime.manifest import CANARY, MODEL
from runtime.precision import LowPrecision
from tests.export.conftest import Exported
from tests.helpers import Export, random_sequences

CASES: list[tuple[str, str, LowPrecision]] = [
    ("layer_norm", "post", "int8"),
    ("layer_norm", "post", "fp16"),
    ("rms_norm", "pre", "int8"),
    ("batch_norm", "pre", "fp16"),
]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return load_dataset("digits", tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def case(request: pytest.FixtureRequest) -> tuple[str, str, LowPrecision]:
    return request.param


@pytest.fixture(scope="module")
def exported(case: tuple[str, str, LowPrecision], exported_once: Callable[[str, str], Exported]) -> Artifact:
    return exported_once(*case[:2]).artifact


@pytest.fixture(scope="module")
def kind(case: tuple[str, str, LowPrecision]) -> LowPrecision:
    return case[2]


@pytest.fixture(scope="module")
def inputs(exported: Artifact) -> InputEncoder:
    return make_input_encoder(exported)


@pytest.fixture(scope="module")
def lowered(exported: Artifact, kind: LowPrecision, digits: Dataset, inputs: InputEncoder) -> Artifact:
    return lower(exported, kind, digits, inputs)


def answers(artifact: Artifact, digits: Dataset, inputs: InputEncoder) -> EncodedBatch:
    return Encoder(artifact).run(encode(inputs, digits.test.inputs))


def test_answers_are_those_of_float32(exported: Artifact, lowered: Artifact, digits: Dataset, inputs: InputEncoder):
    before, after = (answers(artifact, digits, inputs) for artifact in (exported, lowered))
    assert (before.logits.argmax(1) == after.logits.argmax(1)).mean() > 0.98
    assert 0 < np.abs(before.logits - after.logits).max() < 0.1 * before.logits.std() + 0.5


def test_statistics_are_those_of_float32(exported: Artifact, lowered: Artifact, digits: Dataset, inputs: InputEncoder):
    before, after = (answers(artifact, digits, inputs) for artifact in (exported, lowered))
    assert after.norm_statistics.dtype == np.float32
    old, new = (token_values(batch.norm_statistics, exported.manifest.layers) for batch in (before, after))
    scale = np.maximum(np.abs(old).mean(0), old.std(0))
    assert (np.abs(new - old).mean(0) <= 0.05 * scale).all()
    np.testing.assert_allclose(after.feature_moments, before.feature_moments, atol=0.05, rtol=0.05)


def test_manifest_tells_what_was_measured(exported: Artifact, lowered: Artifact, kind: LowPrecision, digits: Dataset):
    measured = lowered.manifest.precision
    assert measured is not None and measured.kind == lowered.manifest.precision_kind == kind
    assert exported.manifest.precision_kind == "fp32"
    assert measured.accuracy["fp32"] == exported.manifest.training["validation_accuracy"]
    assert measured.accuracy[kind] >= measured.accuracy["fp32"] - 1 / len(digits.validation) - 1e-9
    assert measured.size == {"fp32": len(exported.files[MODEL]), kind: len(lowered.files[MODEL])}
    assert set(measured.speed) == {"batch 1", "batch 32"} and min(measured.speed.values()) > 0
    assert 0 < measured.mean_deviation < 0.1 and 0 < measured.variance_deviation < 0.1
    assert measured.agreement > 0.98 and measured.packed_against_alone < 0.5


def test_packed_answers_hardly_depend_on_their_neighbours(lowered: Artifact, digits: Dataset, inputs: InputEncoder):
    encoder, sequences = Encoder(lowered), encode(inputs, digits.test.inputs[:60])
    together = encoder.run(sequences).logits
    alone = np.concatenate([encoder.run([sequence]).logits for sequence in sequences])
    assert (np.abs(together - alone).max(1) < 1e-4).mean() > 0.8  # the others hold a value that was rounded apart
    assert np.abs(together - alone).max() < 0.3


def test_overflow_still_shows_in_the_logits(exported: Artifact, lowered: Artifact):
    poison = [np.full((3, 8), 3e38, dtype=np.float32)]
    for artifact in (exported, lowered):
        assert not np.isfinite(Encoder(artifact).run(poison).logits).any()


def test_only_linear_layers_are_lowered(exported: Artifact, lowered: Artifact, kind: LowPrecision):
    before, after = (onnx.load_from_string(artifact.files[MODEL]).graph for artifact in (exported, lowered))
    assert [(o.name, o.type) for o in before.output] == [(o.name, o.type) for o in after.output]
    weights = {item.name: item.data_type for item in after.initializer}
    linear = {"int8": "MatMulIntegerToFloat", "fp16": "MatMul"}[kind]
    lowered_to = {"int8": onnx.TensorProto.INT8, "fp16": onnx.TensorProto.FLOAT16}[kind]
    found = [weights[node.input[1]] for node in after.node if node.op_type == linear and node.input[1] in weights]
    assert found.count(lowered_to) == 4  # of the one block: query, key and value; output; expand; contract
    for name in ("head.1.weight", "embeddings.token.bias"):
        assert weights[f"encoder.{name}"] == onnx.TensorProto.FLOAT


def test_loss_of_accuracy_is_refused(run_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(export.precision.int8, "ACTIVATION_STEPS", 2)
    with pytest.raises(ExportError, match=r"In int8 the model loses .* points of validation accuracy, more than 0.56"):
        export_run(run_directory, tmp_path, "digits", "1", tmp_path, asked=Asked("int8"))
    assert not (tmp_path / "digits").exists()


def test_int8_is_refused_where_no_norm_bounds_the_tokens(
    exported_once: Callable[[str, str], Exported], digits: Dataset
):
    artifact = exported_once("batch_norm", "pre").artifact
    with pytest.raises(ExportError, match=r"A model with batch_norm cannot be exported in int8.*fp32 or fp16"):
        lower(artifact, "int8", digits, make_input_encoder(artifact))


def test_canary_is_the_graphs_own(lowered: Artifact, exported: Artifact):
    assert lowered.files[CANARY] != exported.files[CANARY]
    with pytest.MonkeyPatch.context() as patch:  # on the machine that exported it, it comes out to the bit
        patch.setattr("runtime.graph.encoder.CANARY_TOLERANCE", {"int8": 1e-6, "fp16": 1e-6})
        Encoder(lowered)


def test_token_table_is_kept_in_steps(text_export: Export):
    artifact, served = text_export
    encoder, sequences = Encoder(artifact), random_sequences(served, 64)
    before = onnx.load_from_string(artifact.files[MODEL])
    after = export.precision.int8.to_int8(before, encoder, batches(sequences))
    weights = {item.name: onnx.numpy_helper.to_array(item) for item in after.graph.initializer}
    table = served.encoder.embeddings.token.weight.detach().numpy()
    steps, step = weights["encoder.embeddings.token.weight.steps"], weights["encoder.embeddings.token.weight.step"]
    assert steps.dtype == np.int8 and "encoder.embeddings.token.weight" not in weights
    np.testing.assert_allclose(steps * step, table, atol=step / 2 * 1.001)
    assert all(
        np.abs(values).max() <= 64
        for name, values in weights.items()
        if name.endswith("weight.steps") and name.startswith("val_")
    )
    assert sum(node.op_type == "MatMulIntegerToFloat" for node in after.graph.node) == 8


@pytest.mark.parametrize("kind", ["int8", "fp16"])
def test_equal_weights_that_share_an_initializer_are_lowered_each(text_export: Export, kind: LowPrecision):
    artifact, served = text_export  # untrained: all its biases of one size are the same zeros
    encoder, sequences = Encoder(artifact), random_sequences(served, 64)
    before = onnx.load_from_string(artifact.files[MODEL])
    biases = [node.input[1] for node in before.graph.node if node.op_type == "Add" and "bias" in node.input[1]]
    assert len(set(biases)) < len(biases) == 8
    after = to_fp16(before) if kind == "fp16" else export.precision.int8.to_int8(before, encoder, batches(sequences))
    session, _ = open_session(after.SerializeToString(), "cpu", threads=1)
    batch = pack(sequences)
    (logits,) = session.run(["logits"], encoder.feeds(batch))
    expected = encoder.run_packed(batch).logits
    assert np.abs(logits - expected).max() < 0.1 * expected.std()


@pytest.mark.parametrize("reached", [(-3.0, 5.0), (-0.17, 10.0), (0.0, 1.0), (2.0, 9.0), (-7.0, -1.0), (0.0, 0.0)])
def test_activation_grid_covers_what_was_reached_and_meets_zero(reached: tuple[float, float]):
    zero, step = activation_grid(reached)
    low, high = -float(zero) * step, (255 - float(zero)) * step
    assert low <= min(reached[0], 0) + step and high >= max(reached[1], 0) - step
    assert step > 0 and zero.dtype == np.uint8
