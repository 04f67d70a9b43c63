"""An artifact in lower precision, with what that costs and saves; refused where it costs accuracy."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import DeduplicateHashedInitializersPass

from export.precision.bf16 import in_bf16
from export.precision.tolerances import Cosines
from export.timing import graph_speeds, with_manifest
from model.data import Dataset, Split
from runtime.artifact import Artifact
from runtime.errors import ExportError
from runtime.graph.batch import EncodedBatch, join, token_values, unit
from runtime.graph.encoder import Encoder, canary_sequences
from runtime.graph.inputs import InputEncoder
from runtime.graph.packing import Tokens, pack
from runtime.graph.session import open_session
from runtime.manifest import CANARY, MODEL, NormLayer
from runtime.precision import LowPrecision, Precision, StatisticsError

MAX_LOSS = 0.003  # of the accuracy; of few labelled data, what one of them is worth
SAMPLES = 1024  # inputs that show how far activations reach
ALONE = 256  # inputs that are run alone too
BATCH = 64  # rows in a run


def lower(
    artifact: Artifact, kind: LowPrecision, dataset: Dataset, inputs: InputEncoder, limits: Cosines | None = None
) -> Artifact:
    """`artifact`, a verified one in float32, in lower precision.

    Args:
        limits: least cosines between vectors and those of float32; None: accuracy alone decides.

    Raises:
        ExportError: it loses too much accuracy on the validation data, or has norms that int8 cannot follow.
    """
    original = Encoder(artifact)
    lowered = convert(artifact, kind, original, training_samples(dataset.train, inputs) if kind == "int8" else [])
    encoder, sequences = Encoder(lowered), encode(inputs, dataset.validation.inputs)
    before, after = run(original, sequences), run(encoder, sequences)
    accuracy = {
        name: float((batch.logits.argmax(1) == dataset.validation.labels).mean())
        for name, batch in (("fp32", before), (kind, after))
    }
    check_loss(accuracy["fp32"] - accuracy[kind], kind, len(sequences), "validation accuracy")
    measured = measure(lowered, before, after, alone(encoder, sequences)) | {
        "accuracy": accuracy,
        "speed": graph_speeds({"fp32": original, kind: encoder}, sequences)[kind],
    }
    if limits is not None:
        measured |= cosines(before, after, kind, limits)
    return with_measured(lowered, measured)


def convert(
    artifact: Artifact,
    kind: LowPrecision,
    original: Encoder,
    samples: Sequence[Sequence[Tokens]],
    fine: bool = False,
) -> Artifact:
    """`artifact` with its graph in lower precision and a canary of that graph's own; nothing is compared yet.

    Args:
        original: runs the graph of `artifact`.
        samples: batches of sequences that show int8 how far activations reach.
        fine: whether int8 takes finer steps, as encoders need that were pretrained on much text (int8.py).

    Raises:
        ExportError: the artifact has norms that int8 cannot follow, or there is no bf16 here.
    """
    if kind == "bf16":
        return in_bf16(artifact)
    check_norms(artifact, kind)
    graph = onnx.load_from_string(artifact.files[MODEL])
    model: bytes = lower_graph(graph, kind, original, samples, fine).SerializeToString()
    files = artifact.files | {MODEL: model, CANARY: own_canary(artifact, model, original)}
    size = {"fp32": len(artifact.files[MODEL]), kind: len(model)}
    return with_manifest(replace(artifact, files=files), precision=Precision(kind=kind, size=size))


def lower_graph(
    graph: onnx.ModelProto,
    kind: LowPrecision,
    original: Encoder,
    samples: Sequence[Sequence[Tokens]],
    fine: bool = False,
) -> onnx.ModelProto:
    """`graph` in lower precision; arguments as `convert`."""
    if kind == "bf16":
        return graph
    from export.precision.fp16 import to_fp16  # with onnxscript, which the serving image has not
    from export.precision.int8 import to_int8

    lowered = to_fp16(graph) if kind == "fp16" else to_int8(graph, original, samples, fine)
    return with_shared_weights(lowered)


def with_shared_weights(graph: onnx.ModelProto) -> onnx.ModelProto:
    """`graph` with one copy of equal weights: lowering makes one for each use, of layers that share them too."""
    model = ir.from_proto(graph)
    DeduplicateHashedInitializersPass()(model)
    return ir.to_proto(model)


def check_norms(artifact: Artifact, kind: LowPrecision) -> None:
    """Refuses int8 where no norm bounds a token's activations: unusual ones would be cut off, and not be seen."""
    unbounded = {layer.kind for layer in artifact.manifest.layers} - {"layer_norm", "rms_norm"}
    if kind == "int8" and unbounded:
        raise ExportError(
            f"A model with {min(unbounded)} cannot be exported in int8, expected layer_norm or rms_norm: "
            "export it in fp32 or fp16. Nothing was written."
        )


def training_samples(train: Split, inputs: InputEncoder) -> list[list[Tokens]]:
    rows = np.linspace(0, len(train) - 1, min(SAMPLES, len(train))).astype(int)
    return batches(encode(inputs, [train.inputs[row] for row in rows]))


def own_canary(artifact: Artifact, model: bytes, original: Encoder) -> bytes:
    """The inputs of a canary with the answers of `model` itself: PyTorch's are further away than kernels differ."""
    content = json.loads(artifact.files[CANARY])
    batch = pack(canary_sequences(artifact), pooling=original.pooling)
    session, _ = open_session(model, "cpu", 1, artifact.manifest.plan)
    names = [name for name in content if name != "inputs"]
    found = dict(zip(names, session.run(names, original.feeds(batch)), strict=True))
    statistics = found["norm_statistics"]
    found["norm_statistics"] = statistics.reshape(-1, statistics.shape[-1])[batch.token_index]
    answers = {name: values.tolist() for name, values in found.items()}
    return json.dumps(content | answers, separators=(",", ":")).encode()


def check_loss(loss: float, kind: LowPrecision, count: int, accuracy: str) -> None:
    """Refuses a loss of accuracy that so many inputs with labels show; `accuracy` says which it is."""
    accepted = max(MAX_LOSS, 1 / count)
    if loss > accepted + 1e-9:
        raise ExportError(
            f"In {kind} the model loses {100 * loss:.2f} points of {accuracy}, more than "
            f"{100 * accepted:.2f}: export it in another precision. Nothing was written."
        )


def measure(lowered: Artifact, before: EncodedBatch, after: EncodedBatch, apart: EncodedBatch) -> dict[str, object]:
    """What lower precision changes: fields of `Precision`.

    Args:
        before: answers of the graph in float32.
        after: of the lowered one, to the same inputs.
        apart: of the lowered one, to the first of the inputs, each run alone.
    """
    manifest = lowered.manifest
    means, variances = deviations(before, after, manifest.layers)
    vectors = [unit(batch.embedding) if manifest.task == "embedding" else batch.logits for batch in (after, apart)]
    measured: dict[str, object] = {
        "mean_deviation": means,
        "variance_deviation": variances,
        "packed_against_alone": float(np.abs(vectors[0][: len(apart.lengths)] - vectors[1]).max()),
    }
    if manifest.task == "classification":
        measured["agreement"] = float((before.logits.argmax(1) == after.logits.argmax(1)).mean())
    return measured


def cosines(before: EncodedBatch, after: EncodedBatch, kind: LowPrecision, limits: Cosines) -> dict[str, float]:
    """Those between the vectors of float32 and the lowered ones, on average and the worst; refused below the limits."""
    each = np.vecdot(unit(before.embedding).astype(np.float64), unit(after.embedding))
    found = {"mean_cosine": float(each.mean()), "worst_cosine": float(each.min())}
    for (name, value), least in zip(found.items(), limits, strict=True):
        if not value >= least:
            raise ExportError(
                f"In {kind} the {name.replace('_', ' ')} between vectors and those of float32 is {value:.5f}, less "
                f"than {least:g}: choose another precision. Nothing was written."
            )
    return found


def with_measured(lowered: Artifact, measured: dict[str, object]) -> Artifact:
    precision = lowered.manifest.precision
    assert precision is not None
    return with_manifest(lowered, precision=precision.model_copy(update=measured))


def with_layer_errors(lowered: Artifact, found_NL: NDArray[Any], expected_NL: NDArray[np.float64]) -> Artifact:
    """`lowered`, whose manifest says how far its statistics are from the network's in float64, [N, 2L] each."""
    inv_std = expected_NL[:, 1::2]
    means = (np.abs(found_NL[:, 0::2] - expected_NL[:, 0::2]) * inv_std).max(0)
    deviations = np.abs(found_NL[:, 1::2] / inv_std - 1).max(0)
    return with_measured(
        lowered,
        {
            "statistics_errors": {
                layer.name: StatisticsError(mean=float(mean), inverse_deviation=float(deviation))
                for layer, mean, deviation in zip(lowered.manifest.layers, means, deviations, strict=True)
            }
        },
    )


def deviations(before: EncodedBatch, after: EncodedBatch, layers: list[NormLayer]) -> tuple[float, float]:
    """How far a layer's mean (in standard deviations of its tokens) and its variance (relative) moved at most."""
    old, new = (token_values(batch.norm_statistics, layers) for batch in (before, after))
    moved = np.abs(new.mean(0) - old.mean(0))
    return float((moved / old.std(0))[0::2].max()), float((moved / old.mean(0))[1::2].max())


def alone(encoder: Encoder, sequences: Sequence[Tokens]) -> EncodedBatch:
    """The first of the sequences, each in a run of its own."""
    return join([encoder.run([sequence]) for sequence in sequences[:ALONE]])


def encode(inputs: InputEncoder, values: Sequence[object]) -> list[Tokens]:
    return [item.tokens for item in inputs.encode(values)]


def batches(sequences: list[Tokens]) -> list[list[Tokens]]:
    return [sequences[start : start + BATCH] for start in range(0, len(sequences), BATCH)]


def run(encoder: Encoder, sequences: list[Tokens]) -> EncodedBatch:
    return join([encoder.run(batch) for batch in batches(sequences)])
