"""`addnorm adopt FILE.onnx --inputs float`: any network of tensors, with its norms observed. Needs no torch."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx_ir as ir

from export.adopt.baseline import Progress
from export.adopt.norms.norm import Unobserved as UnobservedNorm
from export.adopt.norms.probing import Feeds, load, run
from export.adopt.norms.tracing import placement_of
from export.adopt.norms.verify import LOWER, distance, precision_of
from export.adopt.tensors.answer import Answer, TensorHints, choose_answer, class_names
from export.adopt.tensors.file import TensorFile
from export.adopt.tensors.norms import TensorNorm, find_tensor_norms
from export.adopt.tensors.rows import read_tensor_rows
from export.adopt.tensors.sampling import expose_sampled
from export.adopt.tensors.units import samples_of
from export.adopt.tensors.verify import mixed_norms, statistics_errors
from export.adopt.writing import PROBES, Adopted, finish, made
from runtime.artifact import Artifact, check_target
from runtime.errors import ArtifactError, ExportError
from runtime.graph.packing import Tokens
from runtime.graph.tensor_graph import EMBEDDING, LOGITS, STATISTICS, TensorGraph, tensor_feeds
from runtime.graph.tensors import TensorRow, encode_row
from runtime.manifest import CANARY, MODEL, Manifest, NormLayer, TensorInputs, Unobserved, sha256
from runtime.precision import Precision

PACKAGES = ("onnx", "onnx-ir", "onnxruntime")
FEW = 3  # rows that norms are looked for with, and that the canary has
SAME = 1e-4  # how far an answer may be from that to the row alone, of the largest value


def adopt_tensors(
    path: Path,
    baseline: Path,
    target: Path,
    hints: TensorHints | None = None,
    overwrite: bool = False,
    progress: Progress = lambda _done, _of: None,
) -> Adopted:
    """Adopts an ONNX file that reads tensors as the artifact `target`, MODELS/NAME/VERSION.

    Args:
        baseline: rows like those that will be asked, .npz or a table.

    Raises:
        ExportError, DataError: the file or the rows cannot be used, or the graph does not agree with the file.
        ArtifactError: the artifact exists already or cannot be written.
    """
    check_target(target, overwrite)
    hints = hints or TensorHints()
    file = TensorFile(path)
    rows = read_tensor_rows(baseline, file.inputs, hints.label)
    inputs = TensorInputs(tensors=file.inputs, together=file.together)
    some = alike(rows.inputs)[: FEW if file.together else 1]
    few, alone = tensor_feeds(inputs, some), feeds_of(inputs, some)
    outputs, left = file.outputs(alone[0], few)
    inputs = inputs.model_copy(update={"outputs": outputs})
    answer = choose_answer(file, inputs, hints, feeds_of(inputs, alike(rows.inputs)))
    model, norms, unobserved = sampled(file, answer, few, alone, hints.folded)
    moved, errors = statistics_errors(model, file.content, norms, [few, *alone], file.fixed)
    manifest = describe(file, inputs, answer, norms, target).model_copy(
        update={"unobserved": [Unobserved(name=norm.name, reason=norm.reason) for norm in unobserved]}
    )
    manifest.training["outputs_left_out"] = left
    artifact = with_graph(Artifact(target, manifest, {}), model, rows.inputs[:FEW])
    together = check_together(artifact, file, rows.inputs[:PROBES])
    measured = {"norm_statistics": max(errors.values()), "outputs": moved, "together": together}
    return finish(artifact, class_names(rows.labels, answer.labels), rows.inputs, measured, overwrite, progress)


def describe(
    file: TensorFile, inputs: TensorInputs, answer: Answer, norms: Sequence[TensorNorm], target: Path
) -> Manifest:
    """The manifest, without what is measured later."""
    precision = precision_of(file.content)
    return Manifest(
        **made(target, PACKAGES),
        format=4 if any(norm.groups for norm in norms) else 3,
        graph="padded",
        task="classification" if answer.labels else "embedding",
        labels=answer.labels,
        activation=answer.activation,
        normalize=False,
        inputs=inputs,
        d_model=norms[-1].vector_size if answer.labels or answer.width is None else answer.width,
        layers=[to_layer(norm, samples_of(norms), file.fixed) for norm in norms],
        opset=file.opset,
        precision=None if precision == "fp32" else Precision(kind=precision),
        training={
            "adopted_from": file.path.name,
            "architecture": "tensors",
            "parameters": file.parameters,
            "source_sha256": {each.name: sha256(each.read_bytes()) for each in (file.path, *file.weights)},
        },
    )


def feeds_of(inputs: Any, rows: Sequence[Any]) -> list[Feeds]:
    """Each row alone."""
    return [tensor_feeds(inputs, [row]) for row in rows]


def alike(rows: Sequence[Tokens]) -> list[TensorRow]:
    """Some rows of the first one's shapes."""
    given = cast(Sequence[TensorRow], rows)
    return [row for row in given[:PROBES] if row.shapes == given[0].shapes]


def sampled(
    file: TensorFile, answer: Answer, few: Feeds, alone: Sequence[Feeds], folded: bool
) -> tuple[ir.Model, list[TensorNorm], list[UnobservedNorm]]:
    """The file's model with its statistics sampled, its norms, and those that are left out."""
    refused: set[str] = set()
    for _ in range(2):  # once more without the norms that do not see one row at a time
        model = file.parse()
        norms, unobserved = find_tensor_norms(model, few, file.fixed, folded)
        unobserved += [
            UnobservedNorm(norm.name, f"{norm.name} is not observed: what it sees of a row depends on the other rows.")
            for norm in norms
            if norm.name in refused
        ]
        norms = [norm for norm in norms if norm.name not in refused]
        logits = answer.name if answer.labels else None
        embedding = None if answer.labels else answer.name
        model = expose_sampled(model, norms, file.fixed, embedding, logits)
        rows = len(next(iter(few.values())))
        if rows == 1:
            break
        together = ir.to_proto(model).SerializeToString()
        refused = set(mixed_norms(together, norms, alone, few))
        if not refused:
            break
    return model, norms, unobserved


def to_layer(norm: TensorNorm, samples: int, fixed: bool) -> NormLayer:
    """A norm as the manifest lists it."""
    running = norm.running_mean is not None and norm.running_variance is not None
    return NormLayer(
        name=norm.name,
        kind=norm.kind,
        placement=placement_of(norm.x),
        d_model=norm.features,
        eps=norm.eps,
        running_mean=cast(Any, norm.running_mean).tolist() if running else None,
        running_variance=cast(Any, norm.running_variance).tolist() if running else None,
        unit=norm.unit,
        units=norm.units if fixed else None,
        sampled=samples,
        standardized=norm.channels_first,
    )


def with_graph(artifact: Artifact, model: ir.Model, rows: Sequence[Tokens]) -> Artifact:
    """The artifact with its graph, and as canary what that gives for each of these rows alone."""
    try:
        content: bytes = ir.to_proto(model).SerializeToString()
    except Exception as error:  # of protobuf
        raise ExportError(f"{artifact.path} would be too large for one file: 2 GB are allowed.") from error
    session = load(content)
    found = [run(session, feeds) for feeds in feeds_of(artifact.manifest.inputs, rows)]
    names = {"logits": LOGITS} if artifact.manifest.labels else {"embedding": EMBEDDING}
    canary: dict[str, Any] = {"inputs": [encode_row(cast(TensorRow, row)) for row in rows]}
    canary |= {name: np.concatenate([each[own] for each in found]).tolist() for name, own in names.items()}
    canary["norm_statistics"] = np.concatenate([each[STATISTICS][0] for each in found]).tolist()
    return replace(artifact, files={MODEL: content, CANARY: json.dumps(canary, separators=(",", ":")).encode()})


def check_together(artifact: Artifact, file: TensorFile, rows: Sequence[Tokens]) -> float:
    """How far what is served, rows together, is from what the file gives for each row alone; as a share of the largest.

    Raises:
        ExportError: it is too far.
    """
    try:
        served = TensorGraph(artifact)
    except ArtifactError as differs:  # it runs the canary, in one batch
        raise ExportError(
            f"{file.path} answers rows that run together in another way than each alone: {differs}"
        ) from differs
    found = served.run(rows).outputs
    assert found is not None
    expected = [file.run(feeds) for feeds in feeds_of(artifact.manifest.inputs, rows)]
    errors = {
        name: max(distance(each[name][0], values[place]) for place, each in enumerate(expected))
        for name, values in found.items()
    }
    limit = SAME if artifact.manifest.precision is None else LOWER.outputs
    for name, error in errors.items():
        if not error <= limit:
            raise ExportError(
                f"{file.path} gives another {name} for a row alone than together with others ({error:.1e} of the "
                "largest value): export it so that rows do not see one another."
            )
    return max(errors.values())
