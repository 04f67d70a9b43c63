"""An artifact in lower precision, with what that costs and saves; refused where it costs accuracy."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import onnx

from export.precision.fp16 import to_fp16
from export.precision.int8 import to_int8
from export.timing import graph_speeds, with_manifest
from model.data import Dataset, Split
from runtime.artifact import Artifact
from runtime.errors import ExportError
from runtime.graph.batch import EncodedBatch, join, token_values
from runtime.graph.encoder import Encoder, canary_sequences
from runtime.graph.inputs import InputEncoder
from runtime.graph.packing import Tokens, pack
from runtime.graph.session import open_session
from runtime.manifest import CANARY, MODEL, NormLayer, Precision

MAX_LOSS = 0.003  # of the validation accuracy; of few validation data, what one of them is worth
SAMPLES = 1024  # training inputs that show how far activations reach
ALONE = 256  # validation inputs that are run alone too
BATCH = 64  # rows in a run

LowPrecision = Literal["int8", "fp16"]


def lower(artifact: Artifact, kind: LowPrecision, dataset: Dataset, inputs: InputEncoder) -> Artifact:
    """`artifact`, a verified one in float32, in lower precision.

    Raises:
        ExportError: it loses too much accuracy on the validation data, or has norms that int8 cannot follow.
    """
    check_norms(artifact, kind)
    original = Encoder(artifact)
    graph = onnx.load_from_string(artifact.files[MODEL])
    model: bytes = lower_graph(graph, kind, original, dataset.train, inputs).SerializeToString()
    files = artifact.files | {MODEL: model, CANARY: own_canary(artifact, model, original)}
    lowered = with_manifest(replace(artifact, files=files), precision=Precision(kind=kind))
    measured = compare(original, Encoder(lowered), kind, dataset.validation, inputs)
    loss, accepted = measured.accuracy["fp32"] - measured.accuracy[kind], max(MAX_LOSS, 1 / len(dataset.validation))
    if loss > accepted + 1e-9:
        raise ExportError(
            f"In {kind} the model loses {100 * loss:.2f} points of validation accuracy, more than "
            f"{100 * accepted:.2f}: export it in another precision. Nothing was written."
        )
    size = {"fp32": len(artifact.files[MODEL]), kind: len(model)}
    return with_manifest(lowered, precision=measured.model_copy(update={"size": size}))


def check_norms(artifact: Artifact, kind: LowPrecision) -> None:
    """Refuses int8 where no norm bounds a token's activations: unusual ones would be cut off, and not be seen."""
    unbounded = {layer.kind for layer in artifact.manifest.layers} - {"layer_norm", "rms_norm"}
    if kind == "int8" and unbounded:
        raise ExportError(
            f"A model with {min(unbounded)} cannot be exported in int8, expected layer_norm or rms_norm: "
            "export it in fp32 or fp16. Nothing was written."
        )


def lower_graph(
    graph: onnx.ModelProto, kind: LowPrecision, original: Encoder, train: Split, inputs: InputEncoder
) -> onnx.ModelProto:
    if kind == "fp16":
        return to_fp16(graph)
    rows = np.linspace(0, len(train) - 1, min(SAMPLES, len(train))).astype(int)
    sequences = encode(inputs, [train.inputs[row] for row in rows])
    return to_int8(graph, original, batches(sequences))


def own_canary(artifact: Artifact, model: bytes, original: Encoder) -> bytes:
    """The inputs of a canary with the answers of `model` itself: PyTorch's are further away than kernels differ."""
    content, batch = json.loads(artifact.files[CANARY]), pack(canary_sequences(artifact))
    session, _ = open_session(model, "cpu", 1, artifact.manifest.plan)
    logits, statistics = session.run(["logits", "norm_statistics"], original.feeds(batch))
    valid = statistics.reshape(-1, statistics.shape[-1])[batch.token_index]
    answers = {"logits": logits.tolist(), "norm_statistics": valid.tolist()}
    return json.dumps(content | answers, separators=(",", ":")).encode()


def compare(
    original: Encoder, lowered: Encoder, kind: LowPrecision, validation: Split, inputs: InputEncoder
) -> Precision:
    """What lower precision changes on the validation data, and its speed."""
    sequences = encode(inputs, validation.inputs)
    before, after = run(original, sequences), run(lowered, sequences)
    labels = before.logits.argmax(1), after.logits.argmax(1)
    alone = join([lowered.run([sequence]) for sequence in sequences[:ALONE]])
    means, variances = deviations(before, after, original.manifest.layers)
    return Precision(
        kind=kind,
        accuracy={
            name: float((found == validation.labels).mean()) for name, found in zip(("fp32", kind), labels, strict=True)
        },
        agreement=float((labels[0] == labels[1]).mean()),
        mean_deviation=means,
        variance_deviation=variances,
        packed_against_alone=float(np.abs(after.logits[: len(alone.logits)] - alone.logits).max()),
        speed=graph_speeds({"fp32": original, kind: lowered}, sequences)[kind],
    )


def deviations(before: EncodedBatch, after: EncodedBatch, layers: list[NormLayer]) -> tuple[float, float]:
    """How far a layer's mean (in standard deviations of its tokens) and its variance (relative) moved at most."""
    old, new = (token_values(batch.norm_statistics, layers) for batch in (before, after))
    moved = np.abs(new.mean(0) - old.mean(0))
    return float((moved / old.std(0))[0::2].max()), float((moved / old.mean(0))[1::2].max())


def encode(inputs: InputEncoder, values: Sequence[object]) -> list[Tokens]:
    return [item.tokens for item in inputs.encode(values)]


def batches(sequences: list[Tokens]) -> list[list[Tokens]]:
    return [sequences[start : start + BATCH] for start in range(0, len(sequences), BATCH)]


def run(encoder: Encoder, sequences: list[Tokens]) -> EncodedBatch:
    return join([encoder.run(batch) for batch in batches(sequences)])
